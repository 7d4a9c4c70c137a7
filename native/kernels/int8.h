// Activations as signed bytes: each 32 values share a float scale, rounded to nearest even, largest magnitude 127.
// A row keeps its bytes, scales and the sums that weights with an offset or a minimum need.
#pragma once
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// One prepared row of k values, k a multiple of 32.
struct Int8Row {
    const int8_t* q;       // k bytes
    const float* scale;    // k / 32
    const float* total;    // k / 32: scale times the sum of 32 bytes
    const int32_t* sum;    // k / 16: sums of 16 bytes

    static int64_t bytes(int64_t k) { return (k + k / 32 * 4 * 2 + k / 16 * 4 + 63) / 64 * 64; }

    static LLAMERO_INLINE Int8Row at(const void* prepared, int64_t row, int64_t k) {
        const uint8_t* p = static_cast<const uint8_t*>(prepared) + row * bytes(k);
        const float* scale = reinterpret_cast<const float*>(p + k);
        return {reinterpret_cast<const int8_t*>(p), scale, scale + k / 32,
                reinterpret_cast<const int32_t*>(scale + k / 32 * 2)};
    }
};

// The bits of the largest magnitude of 32 floats; not-a-number counts as larger than infinity.
LLAMERO_INLINE int32_t peak_bits(F32x8 a, F32x8 b, F32x8 c, F32x8 d) {
    const I32x8 no_sign = I32x8{} + 0x7fffffff;
    const I32x8 u = (I32x8)a & no_sign, v = (I32x8)b & no_sign, w = (I32x8)c & no_sign, x = (I32x8)d & no_sign;
    const I32x8 uv = u > v ? u : v, wx = w > x ? w : x, all = uv > wx ? uv : wx;
    int32_t peak = 0;
    for (int i = 0; i < 8; ++i) peak = all[i] > peak ? all[i] : peak;
    return peak;
}

// Values that are not finite make the whole 32 not-a-number, so that they show in the result.
inline void quantise_row(const float* x, int64_t k, const Int8Row& row) {
    int8_t* q = const_cast<int8_t*>(row.q);
    float* scale = const_cast<float*>(row.scale);
    float* total = const_cast<float*>(row.total);
    int32_t* sum = const_cast<int32_t*>(row.sum);
    for (int64_t b = 0; b < k / 32; ++b) {
        const float* p = x + 32 * b;
        const F32x8 v[4] = {load<F32x8>(p), load<F32x8>(p + 8), load<F32x8>(p + 16), load<F32x8>(p + 24)};
        const int32_t peak = peak_bits(v[0], v[1], v[2], v[3]);
        const bool finite = peak < 0x7f800000, usable = finite && peak >= 0x04000000;  // below 1.5e-36 is zero
        const float largest = bits_to_float(uint32_t(peak));
        I8x32 bytes = {};
        if (usable) {
            const float inverse = 127.0f / largest;
            bytes = round_to_bytes(v[0] * inverse, v[1] * inverse, v[2] * inverse, v[3] * inverse);
        }
        store(q + 32 * b, bytes);
        scale[b] = usable ? largest / 127.0f : finite ? 0.0f : bits_to_float(0x7fc00000);
        const I32x8 fours = dot(I32x8{}, U8x32{} + 1, bytes);
        sum[2 * b] = fours[0] + fours[1] + fours[2] + fours[3];
        sum[2 * b + 1] = fours[4] + fours[5] + fours[6] + fours[7];
        total[b] = scale[b] * float(sum[2 * b] + sum[2 * b + 1]);
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
