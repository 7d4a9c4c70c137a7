// The tile path's vectors: 4 weight rows in the lanes of a 16-byte register (SSE2, NEON). See lanes.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int lanes = 4;
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));

LLAMERO_INLINE Floats zero_floats() { return Floats{}; }
LLAMERO_INLINE Floats load_floats(const float* p) { return load<Floats>(p); }
LLAMERO_INLINE Floats load_floats(const uint16_t* half) {
#if defined(__aarch64__)
    return (Floats)vcvt_f32_f16(load<float16x4_t>(half));
#else
    return Floats{half_to_float(half[0]), half_to_float(half[1]), half_to_float(half[2]), half_to_float(half[3])};
#endif
}
LLAMERO_INLINE void store_floats(float* p, Floats v) { store(p, v); }
LLAMERO_INLINE Floats broadcast(const float* p) { return Floats{*p, *p, *p, *p}; }
LLAMERO_INLINE Floats multiply_add(Floats a, Floats b, Floats c) { return a * b + c; }
LLAMERO_INLINE float sum_floats(Floats v) { return (v[0] + v[2]) + (v[1] + v[3]); }

LLAMERO_INLINE Floats load_bfloats(const uint16_t* p) {
    return Floats{bfloat_to_float(p[0]), bfloat_to_float(p[1]), bfloat_to_float(p[2]), bfloat_to_float(p[3])};
}

// Four 4-byte columns of 4 rows, transposed: out[c] holds column c of rows 0 to 3.
LLAMERO_INLINE void interleave4(const uint8_t* rows, int64_t stride, uint8_t* out, int64_t out_stride) {
    for (int c = 0; c < 4; ++c)
        for (int r = 0; r < 4; ++r) std::memcpy(out + c * out_stride + 4 * r, rows + r * stride + 4 * c, 4);
}

// Sums of products of four neighbouring bytes, one weight row to a lane. Full bytes come signed.
template <int Peak>
struct Dots {
    I32x4 sums;

    LLAMERO_INLINE void start(const int32_t* from) { sums = I32x4{*from, *from, *from, *from}; }
    LLAMERO_INLINE void add(const uint8_t* weights, const int8_t* activations) {
        int32_t four;
        std::memcpy(&four, activations, 4);
        const I32x4 x = {four, four, four, four};
#if defined(__aarch64__)
        sums = (I32x4)dot16((int32x4_t)sums, load<int8x16_t>(weights), (int8x16_t)x);
#else
        sums = (I32x4)dot16((__m128i)sums, load<__m128i>(weights), (__m128i)x);
#endif
    }
    LLAMERO_INLINE Floats total() { return __builtin_convertvector(sums, Floats); }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
