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

LLAMERO_INLINE Quants plus_bits(Quants q, uint32_t first, uint32_t second, uint8_t value) {
    return _mm512_mask_add_epi8(q, first | uint64_t(second) << 32, q, _mm512_set1_epi8(char(value)));
}

LLAMERO_INLINE Quants lookup(const uint8_t (&table)[16], Quants index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load<__m128i>(table)), index);
}

LLAMERO_INLINE Quants masked(const uint8_t* p, uint8_t first, uint8_t second) {
    const __m256i low = _mm256_set1_epi8(char(first)), high = _mm256_set1_epi8(char(second));
    return _mm512_and_si512(_mm512_broadcast_i64x4(load<__m256i>(p)),
                            _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}
LLAMERO_INLINE Quants masked_nibbles(const uint8_t* first, const uint8_t* second) {
    const Quants same = _mm512_broadcast_i32x4(load<__m128i>(first));
    const Quants both = _mm512_mask_broadcast_i64x2(same, 0xf0, load<__m128i>(second));
    constexpr int64_t low = 0x0f0f0f0f0f0f0f0f, high = ~low;
    return _mm512_and_si512(both, _mm512_setr_epi64(low, low, high, high, low, low, high, high));
}

// What groups have, for lanes that keep to 16 values each: those of quarter q lie in lanes q, q + 4, q + 8 and q + 12.
LLAMERO_INLINE __m512 in_lanes(const F32x8 (&v)[1]) {
    const __m512i order = _mm512_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6, 1, 3, 5, 7, 1, 3, 5, 7);
    return _mm512_permutexvar_ps(order, _mm512_castps256_ps512((__m256)v[0]));
}
LLAMERO_INLINE __m512 in_lanes(const F32x8 (&v)[2]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_ps(order, _mm512_insertf32x8(_mm512_castps256_ps512((__m256)v[0]), (__m256)v[1], 1));
}

// By how many bits the quants of such lanes are too large, taken from `most`.
template <Raised Fields>
LLAMERO_INLINE __m512i less_raised(int most) {
    const int a = most, b = most - 2, c = most - 4, d = most - 6;
    if (Fields == Raised::Nibbles16) return _mm512_setr_epi32(a, a, a, a, c, c, c, c, a, a, a, a, c, c, c, c);
    if (Fields == Raised::Nibbles32) return _mm512_setr_epi32(a, a, a, a, a, a, a, a, c, c, c, c, c, c, c, c);
    if (Fields == Raised::Pairs32) return _mm512_setr_epi32(a, c, a, c, a, c, a, c, b, d, b, d, b, d, b, d);
    return _mm512_set1_epi32(a);
}
template <Raised Fields>
LLAMERO_INLINE __m512 lowered(__m512 scales) {  // 127 << 23 is the float 1
    if (Fields == Raised::No) return scales;
    return _mm512_mul_ps(scales, _mm512_castsi512_ps(_mm512_slli_epi32(less_raised<Fields>(127), 23)));
}

// The products of a stretch of 256 weights and activations, in groups that share a scale. Sums of four neighbours stay
// integers until all quarters are there: then each lane sums up a group, or a part of it, and one multiplication gives
// all of them their scales.
constexpr bool raises = true;
template <int Group, Raised Fields>
class Products256 {
public:
    // Scales of all groups, weights' times activations'.
    LLAMERO_INLINE void start(const F32x8 (&scales)[256 / Group / 8]) { scales_ = lowered<Fields>(in_lanes(scales)); }

    template <bool Signed>
    LLAMERO_INLINE void multiply(int quarter, Quants w, const int8_t* x, Wide&) {
        static_assert(!Signed, "this level multiplies unsigned bytes");
        fours_[quarter] = _mm512_setzero_si512();
        __asm__("vpdpbusd %2, %1, %0" : "+v"(fours_[quarter]) : "v"(w), "m"(*reinterpret_cast<const __m512i*>(x)));
    }
    LLAMERO_INLINE void finish(Wide& sums) const {
        const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(fours_[0], fours_[1]),
                                           _mm512_unpackhi_epi32(fours_[0], fours_[1]));
        const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(fours_[2], fours_[3]),
                                           _mm512_unpackhi_epi32(fours_[2], fours_[3]));
        const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), scales_, sums);
    }

private:
    __m512 scales_;
    __m512i fours_[4];
};

LLAMERO_INLINE Wide zero_wide() { return _mm512_setzero_ps(); }
LLAMERO_INLINE Wide add(Wide a, Wide b) { return _mm512_add_ps(a, b); }
LLAMERO_INLINE F32x8 halves_sum(Wide v) {
    return (F32x8)_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
