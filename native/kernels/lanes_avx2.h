// The tile path's vectors: 8 weight rows in the lanes of a 32-byte register. See lanes.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int lanes = 8;
// A tile: vectors of weight rows times rows of activations. All its sums stay in registers; those of block types twice,
// as integers and as floats.
constexpr int tile_columns = 2, tile_rows = 3, float_tile_rows = 6;
typedef __m256 Floats;

LLAMERO_INLINE Floats zero_floats() { return _mm256_setzero_ps(); }
LLAMERO_INLINE Floats load_floats(const float* p) { return _mm256_loadu_ps(p); }
LLAMERO_INLINE Floats load_floats(const uint16_t* half) { return _mm256_cvtph_ps(load<__m128i>(half)); }
LLAMERO_INLINE void store_floats(float* p, Floats v) { _mm256_storeu_ps(p, v); }
LLAMERO_INLINE Floats broadcast(const float* p) { return _mm256_broadcast_ss(p); }
LLAMERO_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
LLAMERO_INLINE float sum_floats(Floats v) { return sum((F32x8)v); }

LLAMERO_INLINE Floats load_bfloats(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load<__m128i>(p)), 16));
}

// Four 4-byte columns of 8 rows, transposed: out[c] holds column c of rows 0 to 7.
LLAMERO_INLINE void interleave4(const uint8_t* rows, int64_t stride, uint8_t* out, int64_t out_stride) {
    __m256i y[4];
    LLAMERO_UNROLL
    for (int i = 0; i < 4; ++i) {  // rows i, i + 4
        const uint8_t* p = rows + i * stride;
        y[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load<__m128i>(p)), load<__m128i>(p + 4 * stride), 1);
    }
    const __m256i a = _mm256_unpacklo_epi32(y[0], y[1]), b = _mm256_unpackhi_epi32(y[0], y[1]);
    const __m256i c = _mm256_unpacklo_epi32(y[2], y[3]), d = _mm256_unpackhi_epi32(y[2], y[3]);
    store(out, _mm256_unpacklo_epi64(a, c));
    store(out + out_stride, _mm256_unpackhi_epi64(a, c));
    store(out + 2 * out_stride, _mm256_unpacklo_epi64(b, d));
    store(out + 3 * out_stride, _mm256_unpackhi_epi64(b, d));
}

#if defined(__AVXVNNI__)
// The processor multiplies unsigned bytes: panels hold weight / scale + 128, or the quants where weights have minima.
template <class C>
constexpr int panel_offset = C::mins ? 0 : 128;
#else
// Panels hold quants as they are, and full bytes with a sign.
template <class C>
constexpr int panel_offset = C::peak > 127 ? 0 : C::offset;
#endif

// Sums of products of four neighbouring bytes: one row of activations, Columns vectors of weight rows. Weights up to
// Peak leave room for several products in 16 bits before they must be widened; full bytes give their sign to the
// activation first.
template <int Peak, int Offset, int Columns>
struct Dots {
    static constexpr bool is_signed = Peak > 127;
    static constexpr int room = is_signed ? 1 : 32767 / (2 * 127 * Peak);
    struct Weights {
        __m256i column[Columns];
    };
    __m256i sums[Columns];   // biased
    __m256i pairs[Columns];  // 16-bit sums not yet in `sums`
    int held;                // how many products these hold; known to the compiler once the loop is unrolled

    static LLAMERO_INLINE Weights weights(const uint8_t* p) {
        Weights w;
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) w.column[c] = load<__m256i>(p + 32 * c);
        return w;
    }
    LLAMERO_INLINE void start(const int32_t* biased) {
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = _mm256_set1_epi32(Offset ? *biased : biased_zero);
        held = 0;
    }
    LLAMERO_INLINE void widen(int c) {
        sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs[c], _mm256_set1_epi16(1)));
    }
    LLAMERO_INLINE void add(const Weights& w, const int8_t* activations) {
        const __m256i x = _mm256_set1_epi32(load<int32_t>(activations));
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) {
            const __m256i v = w.column[c];
#if defined(__AVXVNNI__)
            sums[c] = _mm256_dpbusd_avx_epi32(sums[c], v, x);
#else
            const __m256i product = is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(x, v))
                                              : _mm256_maddubs_epi16(v, x);
            pairs[c] = held ? _mm256_add_epi16(pairs[c], product) : product;
            if (held + 1 == room) widen(c);
#endif
        }
        held = full_bytes || held + 1 == room ? 0 : held + 1;
    }
    // The sums of a column times the scales of its weights; `shift` is -bias times these.
    LLAMERO_INLINE Floats scaled(int c, const float* scale, const float* shift) {
        if (held) widen(c);
        return _mm256_fmadd_ps(_mm256_castsi256_ps(sums[c]), _mm256_loadu_ps(scale), _mm256_loadu_ps(shift));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
