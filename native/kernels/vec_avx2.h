// 32-byte vectors with AVX2 and, where the level has it, VNNI. See vec.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

LLAMERO_INLINE float half_to_float(uint16_t h) { return _cvtsh_ss(h); }

// Eight halves, Stride bytes apart; none lies more than the eighth's own block behind it. Gathered by the integer units,
// which are idle, where the vector units have no permutation that does it.
template <int Stride>
LLAMERO_INLINE F32x8 halves_apart(const void* first) {
    const uint8_t* p = static_cast<const uint8_t*>(first);
#if defined(__AVX512BW__)
    if constexpr (Stride <= 18) {  // all within 128 bytes
        constexpr int16_t s = Stride / 2;
        const __m512i order = _mm512_castsi128_si512(
            _mm_setr_epi16(0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s));
        const __m512i words = _mm512_permutex2var_epi16(_mm512_loadu_si512(p), order, _mm512_loadu_si512(p + 64));
        return (F32x8)_mm256_cvtph_ps(_mm512_castsi512_si128(words));
    }
#endif
    const auto four = [p](int i) {
        const uint64_t a = load<uint16_t>(p + i * Stride), b = load<uint16_t>(p + (i + 1) * Stride);
        const uint64_t c = load<uint16_t>(p + (i + 2) * Stride), d = load<uint16_t>(p + (i + 3) * Stride);
        return int64_t(a | b << 16 | (c | d << 16) << 32);
    };
    return (F32x8)_mm256_cvtph_ps(_mm_set_epi64x(four(4), four(0)));
}

// Two neighbouring halves, eight times each.
struct TwoHalves {
    F32x8 first, second;

    explicit LLAMERO_INLINE TwoHalves(const uint16_t* p) {
        const __m128 two = _mm_cvtph_ps(_mm_cvtsi32_si128(load<int32_t>(p)));
        first = (F32x8)_mm256_broadcastss_ps(two);
        second = (F32x8)_mm256_broadcastss_ps(_mm_movehdup_ps(two));
    }
};

// Eight bytes as floats.
LLAMERO_INLINE F32x8 bytes_to_floats(const uint8_t* p) {
    return (F32x8)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
LLAMERO_INLINE F32x8 bytes_to_floats(const int8_t* p) {
    return (F32x8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// 16 bytes as 32 nibbles: the low ones, then the high ones.
LLAMERO_INLINE U8x32 nibbles(const uint8_t* p) {
    const __m256i both = _mm256_broadcastsi128_si256(load<__m128i>(p)), shift = _mm256_setr_epi64x(0, 0, 4, 4);
    return (U8x32)_mm256_and_si256(_mm256_srlv_epi64(both, shift), _mm256_set1_epi8(15));
}

// Byte j is `value` where bit j of `mask` is set, otherwise 0.
LLAMERO_INLINE U8x32 bits_to_bytes(uint32_t mask, uint8_t value) {
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(int32_t(mask)), spread);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return (U8x32)_mm256_and_si256(set, _mm256_set1_epi8(char(value)));
}

LLAMERO_INLINE U8x32 lookup(const uint8_t (&table)[16], U8x32 index) {
    const __m256i both = _mm256_broadcastsi128_si256(load<__m128i>(table));
    return (U8x32)_mm256_shuffle_epi8(both, (__m256i)index);
}

LLAMERO_INLINE F32x8 repeat(const float* p) { return (F32x8)_mm256_broadcast_ss(p); }

// (a, a, a, a, b, b, b, b) from two neighbours.
LLAMERO_INLINE F32x8 spread(const float* pair) {
    double both;
    std::memcpy(&both, pair, sizeof both);
    return (F32x8)_mm256_permutevar_ps((__m256)_mm256_set1_pd(both), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

// Each of four floats twice.
LLAMERO_INLINE F32x8 twice(const float* four) {
    const __m256 v = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(four));
    return (F32x8)_mm256_permutevar_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}

LLAMERO_INLINE float sum(F32x8 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Four vectors rounded to the nearest integers within a byte.
LLAMERO_INLINE I8x32 round_to_bytes(F32x8 a, F32x8 b, F32x8 c, F32x8 d) {
    const __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)a), _mm256_cvtps_epi32((__m256)b));
    const __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)c), _mm256_cvtps_epi32((__m256)d));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return (I8x32)_mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
}

// Can `dot` take unsigned bytes above 127? Otherwise such weights are passed to `dot_signed`, less 128.
#if defined(__AVX512VNNI__) && defined(__AVX512VL__) || defined(__AVXVNNI__)
constexpr bool full_bytes = true;
#else
constexpr bool full_bytes = false;
#endif

// acc plus the products of 32 weights and activations, four neighbours to a lane.
LLAMERO_INLINE I32x8 dot(I32x8 acc, U8x32 w, I8x32 x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (I32x8)_mm256_dpbusd_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#elif defined(__AVXVNNI__)
    return (I32x8)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#else
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
    return acc + (I32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#endif
}

// The sign moves from the weight to the activation, so that no 16-bit sum overflows: 2 * 128 * 127 fits.
LLAMERO_INLINE I32x8 dot_signed(I32x8 acc, I8x32 w, I8x32 x) {
    const __m256i size = _mm256_abs_epi8((__m256i)w), turned = _mm256_sign_epi8((__m256i)x, (__m256i)w);
    return acc + (I32x8)_mm256_madd_epi16(_mm256_maddubs_epi16(size, turned), _mm256_set1_epi16(1));
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
