// 64 quants in one register, and their products with activations. See quants.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

typedef __m512i Quants;
typedef __m512 Wide;

LLAMERO_INLINE Quants two(const void* first, const void* second) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(load<__m256i>(first)), load<__m256i>(second), 1);
}
LLAMERO_INLINE void store_quants(uint8_t* p, Quants q) { _mm512_storeu_si512(p, q); }
LLAMERO_INLINE Quants merge(Quants a, Quants b) { return _mm512_or_si512(a, b); }
LLAMERO_INLINE Quants plus(Quants q, uint8_t amount) { return _mm512_add_epi8(q, _mm512_set1_epi8(char(amount))); }

// By 64 bits: what crosses over from a neighbour is not in the mask.
LLAMERO_INLINE Quants shifted(Quants q, int first, int second) {
    if (first == 0 && second == 0) return q;
    const bool left = first < 0 || second < 0;
    const int64_t a = left ? -first : first, b = left ? -second : second;
    const __m512i counts = _mm512_setr_epi64(a, a, a, a, b, b, b, b);
    return left ? _mm512_sllv_epi64(q, counts) : _mm512_srlv_epi64(q, counts);
}
LLAMERO_INLINE Quants field(Quants q, int right, uint8_t mask) {
    return _mm512_and_si512(shifted(q, right, right), _mm512_set1_epi8(char(mask)));
}
LLAMERO_INLINE Quants fields(const uint8_t* p, int first, int second, uint8_t mask) {
    const Quants both = _mm512_broadcast_i64x4(load<__m256i>(p));
    return _mm512_and_si512(shifted(both, first, second), _mm512_set1_epi8(char(mask)));
}

LLAMERO_INLINE Quants nibbles(const uint8_t* first, const uint8_t* second) {
    const Quants same = _mm512_broadcast_i32x4(load<__m128i>(first));
    const Quants both = _mm512_mask_broadcast_i64x2(same, 0xf0, load<__m128i>(second));
    const Quants counts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    return _mm512_and_si512(_mm512_srlv_epi64(both, counts), _mm512_set1_epi8(15));
}

LLAMERO_INLINE Quants bits(uint32_t first, uint32_t second, uint8_t value) {
    return _mm512_maskz_set1_epi8(first | uint64_t(second) << 32, char(value));
}

LLAMERO_INLINE Quants lookup(const uint8_t (&table)[16], Quants index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load<__m128i>(table)), index);
}

template <bool Signed>
LLAMERO_INLINE Wide products(Quants w, const int8_t* x) {
    static_assert(!Signed, "this level multiplies unsigned bytes");
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w, _mm512_loadu_si512(x)));
}

template <int Group>
LLAMERO_INLINE void add_scaled(Wide& sums, Wide products, const float* scales) {
    Wide spread;
    if (Group == 32) {
        const __m512i order = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        spread = _mm512_permutevar_ps(_mm512_castpd_ps(_mm512_set1_pd(load<double>(scales))), order);
    } else {
        const __m512i order = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        spread = _mm512_permutevar_ps(_mm512_broadcast_f32x4(load<__m128>(scales)), order);
    }
    sums = _mm512_fmadd_ps(products, spread, sums);
}

LLAMERO_INLINE Wide zero_wide() { return _mm512_setzero_ps(); }
LLAMERO_INLINE Wide add(Wide a, Wide b) { return _mm512_add_ps(a, b); }
LLAMERO_INLINE F32x8 halves_sum(Wide v) {
    return (F32x8)_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
