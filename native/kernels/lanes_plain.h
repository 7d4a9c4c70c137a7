// The tile path's vectors: 4 weight rows in the lanes of a 16-byte register (SSE2, NEON). See lanes.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int lanes = 4;
// A tile: vectors of weight rows times rows of activations. All its sums stay in registers; those of block types twice,
// as integers and as floats.
constexpr int tile_columns = 2, tile_rows = 4, float_tile_rows = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));

LLAMERO_INLINE Floats zero_floats() { return Floats{}; }
LLAMERO_INLINE Floats load_floats(const float* p) { return load<Floats>(p); }
LLAMERO_INLINE Floats load_floats(const uint16_t* half) {
#if defined(__aarch64__)
    return (Floats)vcvt_f32_f16(load<float16x4_t>(half));
#else
    const I32x4 h = (I32x4)_mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i*)half), _mm_setzero_si128());
    const I32x4 size = h & 0x7fff, infinite = (size >= 0x7c00) & 0x7f800000;  // as half_to_float does it
    return (Floats)((I32x4)((Floats)(size << 13) * 0x1p112f) | infinite | (h & 0x8000) << 16);
#endif
}
LLAMERO_INLINE void store_floats(float* p, Floats v) { store(p, v); }
LLAMERO_INLINE Floats broadcast(const float* p) { return Floats{*p, *p, *p, *p}; }
LLAMERO_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }
LLAMERO_INLINE float sum_floats(Floats v) { return (v[0] + v[2]) + (v[1] + v[3]); }

LLAMERO_INLINE Floats load_bfloats(const uint16_t* p) {
#if defined(__aarch64__)
    return (Floats)vshll_n_u16(load<uint16x4_t>(p), 16);
#else
    return (Floats)_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i*)p));
#endif
}

// Four 4-byte columns of 4 rows, transposed: out[c] holds column c of rows 0 to 3.
LLAMERO_INLINE void interleave4(const uint8_t* rows, int64_t stride, uint8_t* out, int64_t out_stride) {
    for (int c = 0; c < 4; ++c)
        for (int r = 0; r < 4; ++r) std::memcpy(out + c * out_stride + 4 * r, rows + r * stride + 4 * c, 4);
}

// Panels hold weights with their signs.
template <class C>
constexpr int panel_offset = 0;

// Sums of products of four neighbouring bytes: one row of activations, Columns vectors of weight rows.
template <int Peak, int Offset, int Columns>
struct Dots {
#if defined(__aarch64__)
    typedef int32x4_t I32;
    typedef int8x16_t I8;
#else
    typedef __m128i I32;
    typedef __m128i I8;
#endif
    struct Weights {
        I8 column[Columns];
    };
    I32 sums[Columns];

    static LLAMERO_INLINE Weights weights(const uint8_t* p) {
        Weights w;
        for (int c = 0; c < Columns; ++c) w.column[c] = load<I8>(p + 16 * c);
        return w;
    }
    LLAMERO_INLINE void start(const int32_t*) {
        for (int c = 0; c < Columns; ++c) sums[c] = I32{};
    }
    LLAMERO_INLINE void add(const Weights& w, const int8_t* activations) {
        const int32_t four = load<int32_t>(activations);
        const I32x4 x = {four, four, four, four};
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = dot16(sums[c], w.column[c], (I8)x);
    }
    // The sums of a column times the scales of its weights.
    LLAMERO_INLINE Floats scaled(int c, const float* scale, const float*) const {
        return __builtin_convertvector((I32x4)sums[c], Floats) * load<Floats>(scale);
    }
};

#if defined(__ARM_FEATURE_MATMUL_INT8)
// The sums of a tile by an instruction that multiplies two rows of eight bytes by two others: neighbouring rows of
// weights by neighbouring rows of activations. An odd last row is its own neighbour.
template <int Rows>
struct TwoByTwo {
    static constexpr int bytes = 8, pairs = (Rows + 1) / 2;
    int32x4_t low[pairs][tile_columns], high[pairs][tile_columns];  // of two of four weight rows, and of the other two

    LLAMERO_INLINE void start(int r, const int32_t*) {
        for (int c = 0; c < tile_columns; ++c) low[r / 2][c] = high[r / 2][c] = vdupq_n_s32(0);
    }
    template <class At>
    LLAMERO_INLINE void add(const uint8_t* panel, const At& at) {
        int8x16_t x[pairs];
        LLAMERO_UNROLL
        for (int p = 0; p < pairs; ++p) {
            const int second = 2 * p + 1 < Rows ? 2 * p + 1 : 2 * p;
            x[p] = vcombine_s8(load<int8x8_t>(at(2 * p)), load<int8x8_t>(at(second)));
        }
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c) {
            const uint8_t* four = panel + 16 * c;
            const int32x4_t first = load<int32x4_t>(four), next = load<int32x4_t>(four + 16 * tile_columns);
            const int8x16_t lower = (int8x16_t)vzip1q_s32(first, next), upper = (int8x16_t)vzip2q_s32(first, next);
            LLAMERO_UNROLL
            for (int p = 0; p < pairs; ++p) {
                low[p][c] = vmmlaq_s32(low[p][c], lower, x[p]);
                high[p][c] = vmmlaq_s32(high[p][c], upper, x[p]);
            }
        }
    }
    LLAMERO_INLINE Floats scaled(int r, int c, const float* scale, const float*) const {
        const int32x4_t l = low[r / 2][c], h = high[r / 2][c], sums = r % 2 ? vuzp2q_s32(l, h) : vuzp1q_s32(l, h);
        return (Floats)vcvtq_f32_s32(sums) * load<Floats>(scale);
    }
};
#endif

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
