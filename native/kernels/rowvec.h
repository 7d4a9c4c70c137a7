// Vectors of floats as wide as the level's registers, in the compiler's own vector notation: what the row operations
// and attention are written with. All in an anonymous namespace: no two levels can share a function by accident.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int W = 16;  // floats in a register
constexpr int REGISTERS = 32;
#elif defined(__AVX2__)
constexpr int W = 8;
constexpr int REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int W = 4;
constexpr int REGISTERS = 32;
#else
constexpr int W = 4;
constexpr int REGISTERS = 16;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef int8_t vb __attribute__((vector_size(W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

template <class V, class T>
inline V load_as(const T* p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}

inline vf load(const float* p) { return load_as<vf>(p); }
inline void store(float* p, vf v) { memcpy(p, &v, sizeof v); }
inline vf broadcast(float x) { return x - vf{}; }

// The first `count` floats, zeros after them.
inline vf load_part(const float* p, int64_t count) {
    float lanes[W] = {};
    memcpy(lanes, p, sizeof(float) * static_cast<size_t>(count));
    return load(lanes);
}

inline void store_part(float* p, vf v, int64_t count) { memcpy(p, &v, sizeof(float) * static_cast<size_t>(count)); }

// a where the mask is all ones, b where it is zero.
inline vf select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
#if defined(__AVX512F__)
inline vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
inline vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#else
inline vf max(vf a, vf b) { return select(a > b, a, b); }
inline vf min(vf a, vf b) { return select(a < b, a, b); }
#endif

template <int... I>
struct Lanes {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    typedef Lanes<I...> lanes;
};

#if defined(__clang__)
#define LLAMERO_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LLAMERO_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif

// a0 b0 a1 b1 ... of the lower and of the upper halves.
template <int... I>
inline vf zip_low(vf a, vf b, Lanes<I...>) {
    return LLAMERO_SHUFFLE(a, b, (I / 2 + I % 2 * W)...);
}
template <int... I>
inline vf zip_high(vf a, vf b, Lanes<I...>) {
    return LLAMERO_SHUFFLE(a, b, (W / 2 + I / 2 + I % 2 * W)...);
}
// a1 a0 a3 a2 ...
template <int... I>
inline vf swap_pairs(vf a, Lanes<I...>) {
    return LLAMERO_SHUFFLE(a, a, (I ^ 1)...);
}
#undef LLAMERO_SHUFFLE

typedef Count<W>::lanes AllLanes;
inline vf zip_low(vf a, vf b) { return zip_low(a, b, AllLanes()); }
inline vf zip_high(vf a, vf b) { return zip_high(a, b, AllLanes()); }
inline vf swap_pairs(vf a) { return swap_pairs(a, AllLanes()); }

// Transpose W vectors of W floats in place: log2 W rounds, each a perfect shuffle of the halves.
inline void transpose(vf (&rows)[W]) {
#pragma GCC unroll 4
    for (int round = 1; round < W; round *= 2) {
        vf next[W];
#pragma GCC unroll 8
        for (int i = 0; i < W / 2; ++i) {
            next[2 * i] = zip_low(rows[i], rows[i + W / 2]);
            next[2 * i + 1] = zip_high(rows[i], rows[i + W / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) rows[i] = next[i];
    }
}

// Lane i of the result is the sum over the lanes of rows[i]. Destroys rows.
inline vf sums(vf (&rows)[W]) {
#if defined(__AVX512F__)
    const auto fold = [](vf a, vf b) {
        return _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    };
    __m512 fours[4];  // four[i] has in each quarter the sums over that quarter of rows 4 i .. 4 i + 3
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
        fours[i] = fold((vf)fold(rows[4 * i], rows[4 * i + 2]), (vf)fold(rows[4 * i + 1], rows[4 * i + 3]));
    const auto join = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    return (vf)join(join(fours[0], fours[1]), join(fours[2], fours[3]));
#else
#pragma GCC unroll 4
    for (int half = W / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) rows[i] = zip_low(rows[i], rows[i + half]) + zip_high(rows[i], rows[i + half]);
    return rows[0];
#endif
}

// Sum and maximum over the lanes, by halves.
inline float sum(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float lanes[W];
    store(lanes, v);
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
#endif
}

inline float max_lane(vf v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float lanes[W];
    store(lanes, v);
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
    return lanes[0];
#endif
}

// e^x with a relative error near 2e-7; zero below -87.3, about 2e38 above 88.3, NaN for NaN.
// x = n ln 2 + r, and e^r = 1 + r + r^2 q(r), q fitted to the least relative error over |r| <= ln 2 / 2.
inline vf exp(vf x) {
    const vf magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number in the low bits
#if defined(__AVX512F__)
    const __mmask16 stays = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ);
#else
    const vi vanishes = x < broadcast(-87.3f);
#endif
    x = min(broadcast(88.3f), x);
    const vf shifted = x * 1.44269504f + magic;
    const vf n = shifted - magic;
    const vf r = (x - n * 0.693145752f) - n * 1.42860677e-6f;  // ln 2 in two parts
    vf q = r * 0.00831252033f + 0.0418901575f;
    q = q * r + 0.166671147f;
    q = q * r + 0.499992315f;
    const vf y = (r * r * q + r) + 1.0f;
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_scalef_ps(stays, (__m512)y, (__m512)n);
#else
    return select(vanishes, vf{}, (vf)((vu)y + ((vu)shifted << 23)));
#endif
}

// Half precision to float.
inline vf from_half(const uint16_t* p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__aarch64__)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    const vu h = __builtin_convertvector(load_as<vh>(p), vu);
    const vu rest = (h & 0x7fffu) << 13;
    const vf scaled = (vf)rest * 0x1p112f;  // moves the exponent's bias, and makes subnormals normal
    const vu special = (vu)(rest >= (0x7c00u << 13)) & 0x7f800000u;
    return (vf)((vu)scaled | special | (h & 0x8000u) << 16);
#endif
}

// Float to half precision, to nearest even.
inline void to_half(uint16_t* p, vf v) {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
#else
    const vu bits = (vu)v;
    const vu magnitude = bits & 0x7fffffffu;
    // Normal halves: round the 13 lost bits to even. Subnormal ones: let an addition round.
    const vu normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const vu tiny = (vu)((vf)magnitude + 0.5f) - 0x3f000000u;
    const vu is_tiny = (vu)(magnitude < (113u << 23)), is_huge = (vu)(magnitude >= (143u << 23) - 0x1000u);
    const vu is_nan = (vu)(magnitude > 0x7f800000u);
    vu half = (is_tiny & tiny) | (~is_tiny & normal);
    half = (is_huge & 0x7c00u) | (~is_huge & half) | (is_nan & 0x200u) | (bits >> 16 & 0x8000u);
    const vh out = __builtin_convertvector(half, vh);
    memcpy(p, &out, sizeof out);
#endif
}

// Signed bytes to float.
inline vf from_bytes(const int8_t* p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    return __builtin_convertvector(__builtin_convertvector(load_as<vb>(p), vi), vf);
#endif
}

inline float half_value(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    const uint32_t rest = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    float x = load_as<float>(&rest) * 0x1p112f;  // as in from_half
    const uint32_t bits = load_as<uint32_t>(&x) | sign | (rest >= 0x7c00u << 13 ? 0x7f800000u : 0u);
    memcpy(&x, &bits, sizeof x);
    return x;
#endif
}

inline uint16_t half_bits(float x) {
    uint16_t lanes[W];
    to_half(lanes, broadcast(x));
    return lanes[0];
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
