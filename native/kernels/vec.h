// Small vectors that the products are written with. Portable arithmetic uses the compiler's vector types (+, &, >> work
// on every processor); what needs a processor's own instruction is in vec_avx2.h or vec_plain.h (32 bytes, dot path)
// and lanes_*.h (native width, the tile path). Everything is per level: nothing here may be shared between levels.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define LLAMERO_INLINE inline __attribute__((always_inline))
#define LLAMERO_ALONE __attribute__((noinline))  // needs all registers for itself
#define LLAMERO_UNROLL _Pragma("GCC unroll 16")

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

typedef uint8_t U8x16 __attribute__((vector_size(16)));
typedef uint64_t U64x2 __attribute__((vector_size(16)));
typedef uint8_t U8x32 __attribute__((vector_size(32)));
typedef uint16_t U16x16 __attribute__((vector_size(32)));
typedef int8_t I8x32 __attribute__((vector_size(32)));
typedef int32_t I32x8 __attribute__((vector_size(32)));
typedef float F32x8 __attribute__((vector_size(32)));

template <class V>
LLAMERO_INLINE V load(const void* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

template <class V>
LLAMERO_INLINE void store(void* p, const V& v) {
    std::memcpy(p, &v, sizeof v);
}

LLAMERO_INLINE F32x8 to_float(I32x8 v) { return __builtin_convertvector(v, F32x8); }

// An integer below 2^22 in size may be kept as the bits of the float 1.5 * 2^23 + integer: adding to the bits adds to
// the integer, and no conversion is needed to compute with it.
constexpr int32_t biased_zero = 0x4b400000;
constexpr float bias = 12582912.0f;

LLAMERO_INLINE F32x8 biased_to_float(I32x8 v) { return (F32x8)v - bias; }

LLAMERO_INLINE float bits_to_float(uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

LLAMERO_INLINE uint32_t float_to_bits(float f) {
    uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    return bits;
}

LLAMERO_INLINE float bfloat_to_float(uint16_t b) { return bits_to_float(uint32_t(b) << 16); }

// Makes the compiler keep v in a register, where it would rather load it again at every use.
template <class V>
LLAMERO_INLINE void keep_in_register(V& v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__x86_64__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
}

// Makes the compiler store v, so that its parts are loaded: broadcasting is free from memory, not from a register.
template <class T>
LLAMERO_INLINE void keep_in_memory(T& v) {
    __asm__("" : "+m"(v));
}

// Fetch the line `ahead` bytes from p; where there is none it does nothing.
LLAMERO_INLINE void prefetch(const void* p, uintptr_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + ahead));
}

// Fetch what a stream will need after [p, p + bytes), to the second-level cache: the processor brings it nearer by itself.
LLAMERO_INLINE void prefetch_stream(const void* p, uintptr_t bytes, uintptr_t ahead = 8192) {
    for (uintptr_t line = 0; line < bytes; line += 64)
        __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + ahead + line), 0, 2);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero

#if defined(__AVX2__)
#include "vec_avx2.h"
#else
#include "vec_plain.h"
#endif
