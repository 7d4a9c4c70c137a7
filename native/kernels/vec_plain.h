// 32-byte vectors in plain C++, with the dot product of SSE2 or NEON. See vec.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

LLAMERO_INLINE float half_to_float(uint16_t h) {
#if defined(__aarch64__)
    __fp16 f;
    std::memcpy(&f, &h, sizeof f);
    return f;
#else
    // The exponent moves to its new place and bias, exactly; subnormals too, for they are normal floats.
    const uint32_t size = h & 0x7fff, infinite = size >= 0x7c00 ? 0x7f800000 : 0;
    return bits_to_float(float_to_bits(bits_to_float(size << 13) * 0x1p112f) | infinite | uint32_t(h & 0x8000) << 16);
#endif
}

template <class T>
LLAMERO_INLINE F32x8 eight(const T* p, float (*convert)(T)) {
    F32x8 v;
    for (int i = 0; i < 8; ++i) v[i] = convert(p[i]);
    return v;
}

template <int Stride>
LLAMERO_INLINE F32x8 halves_apart(const void* first) {
    const uint8_t* p = static_cast<const uint8_t*>(first);
    F32x8 v;
    for (int i = 0; i < 8; ++i) v[i] = half_to_float(load<uint16_t>(p + i * Stride));
    return v;
}

struct TwoHalves {
    F32x8 first, second;

    explicit LLAMERO_INLINE TwoHalves(const uint16_t* p)
        : first(F32x8{} + half_to_float(p[0])), second(F32x8{} + half_to_float(p[1])) {}
};
LLAMERO_INLINE F32x8 bytes_to_floats(const uint8_t* p) {
    return eight<uint8_t>(p, [](uint8_t b) { return float(b); });
}
LLAMERO_INLINE F32x8 bytes_to_floats(const int8_t* p) {
    return eight<int8_t>(p, [](int8_t b) { return float(b); });
}

LLAMERO_INLINE U8x32 join(U8x16 low, U8x16 high) {
    U8x32 both;
    std::memcpy(&both, &low, 16);
    std::memcpy(reinterpret_cast<char*>(&both) + 16, &high, 16);
    return both;
}

LLAMERO_INLINE U8x32 nibbles(const uint8_t* p) {
    const U8x16 q = load<U8x16>(p);
    return join(q & 15, q >> 4);
}

LLAMERO_INLINE U8x32 bits_to_bytes(uint32_t mask, uint8_t value) {
    U8x32 v;
    for (int i = 0; i < 32; ++i) v[i] = (mask >> i & 1) ? value : 0;
    return v;
}

LLAMERO_INLINE U8x32 lookup(const uint8_t (&table)[16], U8x32 index) {
#if defined(__aarch64__)
    const uint8x16_t entries = vld1q_u8(table);
    U8x16 half[2];
    std::memcpy(half, &index, sizeof half);
    for (U8x16& h : half) h = (U8x16)vqtbl1q_u8(entries, (uint8x16_t)h);
    return join(half[0], half[1]);
#else
    U8x32 v;
    for (int i = 0; i < 32; ++i) v[i] = table[index[i]];
    return v;
#endif
}

LLAMERO_INLINE F32x8 repeat(const float* p) { return F32x8{*p, *p, *p, *p, *p, *p, *p, *p}; }

LLAMERO_INLINE F32x8 spread(const float* two) {
    const float a = two[0], b = two[1];
    return F32x8{a, a, a, a, b, b, b, b};
}

LLAMERO_INLINE F32x8 twice(const float* v) { return F32x8{v[0], v[0], v[1], v[1], v[2], v[2], v[3], v[3]}; }

LLAMERO_INLINE float sum(F32x8 v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

LLAMERO_INLINE I8x32 round_to_bytes(F32x8 a, F32x8 b, F32x8 c, F32x8 d) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
    const F32x8 parts[4] = {a, b, c, d};
    I8x32 out;
    for (int p = 0; p < 4; ++p) {
        const F32x8 shifted = parts[p] + magic;
        const I32x8 bits = (I32x8)shifted;
        for (int i = 0; i < 8; ++i) out[8 * p + i] = int8_t(bits[i]);
    }
    return out;
}

constexpr bool full_bytes = false;

#if defined(__aarch64__)

LLAMERO_INLINE int32x4_t dot16(int32x4_t acc, int8x16_t w, int8x16_t x) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(acc, w, x);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}

#else

// Bytes to 16-bit integers, then pairs of products: lanes (0, 1) and (2, 3) of four neighbours are added at the end.
LLAMERO_INLINE __m128i dot16(__m128i acc, __m128i w, __m128i x) {
    const __m128i zero = _mm_setzero_si128(), wn = _mm_cmpgt_epi8(zero, w), xn = _mm_cmpgt_epi8(zero, x);
    const __m128i low = _mm_madd_epi16(_mm_unpacklo_epi8(w, wn), _mm_unpacklo_epi8(x, xn));
    const __m128i high = _mm_madd_epi16(_mm_unpackhi_epi8(w, wn), _mm_unpackhi_epi8(x, xn));
    const __m128 l = _mm_castsi128_ps(low), h = _mm_castsi128_ps(high);
    const __m128i even = _mm_castps_si128(_mm_shuffle_ps(l, h, 0x88));
    const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(l, h, 0xdd));
    return _mm_add_epi32(acc, _mm_add_epi32(even, odd));
}

#endif

LLAMERO_INLINE I32x8 dot_signed(I32x8 acc, I8x32 w, I8x32 x) {
#if defined(__aarch64__)
    typedef int32x4_t I32;
    typedef int8x16_t I8;
#else
    typedef __m128i I32;
    typedef __m128i I8;
#endif
    I32 a[2];
    I8 u[2], v[2];
    std::memcpy(a, &acc, 32);
    std::memcpy(u, &w, 32);
    std::memcpy(v, &x, 32);
    for (int i = 0; i < 2; ++i) a[i] = dot16(a[i], u[i], v[i]);
    std::memcpy(&acc, a, 32);
    return acc;
}

// Weights of at most 127 read the same with a sign.
LLAMERO_INLINE I32x8 dot(I32x8 acc, U8x32 w, I8x32 x) { return dot_signed(acc, (I8x32)w, x); }

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
