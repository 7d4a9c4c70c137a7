// The tile path's vectors: 16 weight rows in the lanes of a 64-byte register. See lanes.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int lanes = 16;
// A tile: vectors of weight rows times rows of activations. All its sums stay in registers; those of block types twice,
// as integers and as floats.
constexpr int tile_columns = 4, tile_rows = 3, float_tile_rows = 6;
typedef __m512 Floats;

LLAMERO_INLINE Floats zero_floats() { return _mm512_setzero_ps(); }
LLAMERO_INLINE Floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
LLAMERO_INLINE Floats load_floats(const uint16_t* half) { return _mm512_cvtph_ps(load<__m256i>(half)); }
LLAMERO_INLINE void store_floats(float* p, Floats v) { _mm512_storeu_ps(p, v); }
LLAMERO_INLINE Floats broadcast(const float* p) { return _mm512_set1_ps(*p); }
LLAMERO_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
LLAMERO_INLINE float sum_floats(Floats v) { return _mm512_reduce_add_ps(v); }

LLAMERO_INLINE Floats load_bfloats(const uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load<__m256i>(p)), 16));
}

// Four 4-byte columns of 16 rows, transposed: out[c] holds column c of rows 0 to 15.
LLAMERO_INLINE void interleave4(const uint8_t* rows, int64_t stride, uint8_t* out, int64_t out_stride) {
    __m512i z[4];
    LLAMERO_UNROLL
    for (int i = 0; i < 4; ++i) {  // rows i, i + 4, i + 8, i + 12
        const uint8_t* p = rows + i * stride;
        z[i] = _mm512_castsi128_si512(load<__m128i>(p));
        z[i] = _mm512_inserti32x4(z[i], load<__m128i>(p + 4 * stride), 1);
        z[i] = _mm512_inserti32x4(z[i], load<__m128i>(p + 8 * stride), 2);
        z[i] = _mm512_inserti32x4(z[i], load<__m128i>(p + 12 * stride), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
    _mm512_storeu_si512(out, _mm512_unpacklo_epi64(a, c));
    _mm512_storeu_si512(out + out_stride, _mm512_unpackhi_epi64(a, c));
    _mm512_storeu_si512(out + 2 * out_stride, _mm512_unpacklo_epi64(b, d));
    _mm512_storeu_si512(out + 3 * out_stride, _mm512_unpackhi_epi64(b, d));
}

// The processor multiplies unsigned bytes: panels hold weight / scale + 128, or the quants where weights have minima.
template <class C>
constexpr int panel_offset = C::mins ? 0 : 128;

// Sums of products of four neighbouring bytes: one row of activations, Columns vectors of weight rows. The instruction
// is written out because GCC 12 copies and spills the accumulators of its intrinsic.
template <int Peak, int Offset, int Columns>
struct Dots {
    struct Weights {
        __m512i column[Columns];
    };
    __m512i sums[Columns];  // biased

    static LLAMERO_INLINE Weights weights(const uint8_t* p) {
        Weights w;
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) {
            __m512i column = _mm512_loadu_si512(p + 64 * c);
            keep_in_register(column);  // apart, or GCC 12 would store what it keeps
            w.column[c] = column;
        }
        return w;
    }
    LLAMERO_INLINE void start(const int32_t* biased) {
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = _mm512_set1_epi32(Offset ? *biased : biased_zero);
    }
    LLAMERO_INLINE void add(const Weights& w, const int8_t* activations) {
        __m512i x = _mm512_set1_epi32(load<int32_t>(activations));
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums[c]) : "v"(w.column[c]), "v"(x));
    }
    // The sums of a column times the scales of its weights; `shift` is -bias times these.
    LLAMERO_INLINE Floats scaled(int c, const float* scale, const float* shift) const {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(sums[c]), _mm512_loadu_ps(scale), _mm512_loadu_ps(shift));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
