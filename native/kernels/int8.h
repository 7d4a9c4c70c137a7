// Activations as signed bytes: each 32 values share a float scale, rounded to nearest even, largest magnitude 127.
// A row keeps its bytes, scales and the sums that weights with an offset or a minimum need.
#pragma once
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// 256 prepared values, one after another in memory so that a kernel follows a single pointer.
struct alignas(64) Int8Block {
    int8_t q[256];
    float scale[8];        // of 32 values each
    float total[8];        // scale times the sum of the 32 bytes
    int32_t start[8];      // -128 times the sum of the 32 bytes, biased: where products with weights + 128 start
    int32_t starts16[16];  // the same of 16 bytes each
};
static_assert(sizeof(Int8Block) == 448);

// A row of k values, k a multiple of 32; the last block is filled up with zeros.
struct Int8Row {
    static int64_t blocks(int64_t k) { return (k + 255) / 256; }
    static int64_t bytes(int64_t k) { return blocks(k) * int64_t(sizeof(Int8Block)); }
    static const Int8Block* at(const void* prepared, int64_t row, int64_t k) {
        return static_cast<const Int8Block*>(prepared) + row * blocks(k);
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
LLAMERO_INLINE void quantise_32(const float* x, Int8Block& out, int part) {
    const F32x8 v[4] = {load<F32x8>(x), load<F32x8>(x + 8), load<F32x8>(x + 16), load<F32x8>(x + 24)};
    const int32_t peak = peak_bits(v[0], v[1], v[2], v[3]);
    const bool finite = peak < 0x7f800000, usable = finite && peak >= 0x04000000;  // below 1.5e-36 is zero
    const float largest = bits_to_float(uint32_t(peak));
    I8x32 bytes = {};
    if (usable) {
        const float inverse = 127.0f / largest;
        bytes = round_to_bytes(v[0] * inverse, v[1] * inverse, v[2] * inverse, v[3] * inverse);
    }
    store(out.q + 32 * part, bytes);
    out.scale[part] = usable ? largest / 127.0f : finite ? 0.0f : bits_to_float(0x7fc00000);
    const I32x8 fours = dot(I32x8{}, U8x32{} + 1, bytes);
    const int32_t low = fours[0] + fours[1] + fours[2] + fours[3], high = fours[4] + fours[5] + fours[6] + fours[7];
    out.total[part] = out.scale[part] * float(low + high);
    out.start[part] = biased_zero - 128 * (low + high);
    out.starts16[2 * part] = biased_zero - 128 * low;
    out.starts16[2 * part + 1] = biased_zero - 128 * high;
}

inline void quantise_row(const float* x, int64_t k, void* prepared, int64_t row) {
    Int8Block* out = static_cast<Int8Block*>(prepared) + row * Int8Row::blocks(k);
    if (k % 256) std::memset(out + k / 256, 0, sizeof(Int8Block));
    for (int64_t at = 0; at < k; at += 32) quantise_32(x + at, out[at / 256], int(at / 32 % 8));
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
