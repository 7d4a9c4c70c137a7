// Loops that do nothing but multiply, or read, as fast as the level can: what the other kernels are measured against.
#include "../kernels.h"
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int width = 64, chains = 16;  // bytes of a register; sums that do not wait for each other
#elif defined(__AVX2__)
constexpr int width = 32, chains = 12;
#elif defined(__aarch64__)
constexpr int width = 16, chains = 16;
#else
constexpr int width = 16, chains = 12;
#endif

typedef float F32s __attribute__((vector_size(width)));
typedef int8_t I8s __attribute__((vector_size(width)));
typedef int32_t I32s __attribute__((vector_size(width)));

// The unit that multiplies bytes and adds the products to 32-bit sums. `products`: of one call.
struct Int8 {
    typedef I32s Sums;
    typedef I8s Factors;
#if defined(__AVX512F__)
    static constexpr int products = 64;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(w), "v"(x));
    }
#elif defined(__AVX2__)
    static constexpr int products = 32;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) { sums = dot(sums, (U8x32)w, x); }
#elif defined(__ARM_FEATURE_DOTPROD)
    static constexpr int products = 16;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) {
        sums = (Sums)vdotq_s32((int32x4_t)sums, (int8x16_t)w, (int8x16_t)x);
    }
#elif defined(__aarch64__)
    static constexpr int products = 8;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) {
        const int16x8_t pairs = vmull_s8(vget_low_s8((int8x16_t)w), vget_low_s8((int8x16_t)x));
        sums = (Sums)vpadalq_s16((int32x4_t)sums, pairs);
    }
#else
    static constexpr int products = 8;  // of bytes that were widened to 16 bits
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) {
        sums += (Sums)_mm_madd_epi16((__m128i)w, (__m128i)x);
    }
#endif
};

struct Float {
    typedef F32s Sums;
    typedef F32s Factors;
    static constexpr int products = width / 4;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) { sums += w * x; }
};

#if defined(__AVX512F__)
struct BFloat {
    typedef F32s Sums;
    typedef I8s Factors;
    static constexpr int products = 32;
    static LLAMERO_INLINE void add(Sums& sums, Factors w, Factors x) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(w), "v"(x));
    }
};
#endif

// Tells the compiler that v must be computed.
template <class V>
LLAMERO_INLINE void need(V v) {
    __asm__ volatile("" : : "m"(v));
}

// Bytes that are ordinary numbers in every format.
template <class V>
V ordinary() {
    uint8_t bytes[sizeof(V)];
    for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = uint8_t(0x3c + i % 4);
    return load<V>(bytes);
}

template <class Unit>
int64_t multiply(int64_t rounds) {
    typename Unit::Factors w = ordinary<typename Unit::Factors>(), x = w;
    typename Unit::Sums sums[chains] = {};
    for (int64_t round = 0; round < rounds; ++round) {
        LLAMERO_UNROLL
        for (int c = 0; c < chains; ++c) {
            keep_in_register(w);  // as far as the compiler knows, another one: the product is taken again
            Unit::add(sums[c], w, x);
        }
    }
    LLAMERO_UNROLL
    for (int c = 0; c < chains; ++c) need(sums[c]);
    return 2 * rounds * chains * Unit::products;
}

int64_t multiply_ints(int64_t rounds) { return multiply<Int8>(rounds); }
int64_t multiply_floats(int64_t rounds) { return multiply<Float>(rounds); }

int64_t multiply_bfloats(int64_t rounds) {
#if defined(__AVX512F__)
    if (__builtin_cpu_supports("avx512bf16")) return multiply<BFloat>(rounds);
#endif
    (void)rounds;
    return 0;
}

void read(const uint8_t* from, int64_t bytes) {
    constexpr int streams = 8;
    I32s sums[streams] = {};
    int64_t at = 0;
    for (; at + streams * width <= bytes; at += streams * width) {
        LLAMERO_UNROLL
        for (int s = 0; s < streams; ++s) sums[s] += load<I32s>(from + at + s * width);
    }
    LLAMERO_UNROLL
    for (int s = 0; s < streams; ++s) need(sums[s]);
}

}  // namespace

Limits limits() { return {multiply_ints, multiply_bfloats, multiply_floats, read}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
