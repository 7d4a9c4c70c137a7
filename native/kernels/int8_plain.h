// Quantising activations 32 at a time. See int8.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The bits of the largest magnitude of 32 floats; not-a-number counts as larger than infinity.
LLAMERO_INLINE int32_t peak_bits(F32x8 a, F32x8 b, F32x8 c, F32x8 d) {
    const I32x8 no_sign = I32x8{} + 0x7fffffff;
    const I32x8 u = (I32x8)a & no_sign, v = (I32x8)b & no_sign, w = (I32x8)c & no_sign, x = (I32x8)d & no_sign;
    const I32x8 uv = u > v ? u : v, wx = w > x ? w : x, all = uv > wx ? uv : wx;
    int32_t peak = 0;
    for (int i = 0; i < 8; ++i) peak = all[i] > peak ? all[i] : peak;
    return peak;
}

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

LLAMERO_INLINE void quantise_256(const float* x, Int8Block& out) {
    for (int part = 0; part < 8; ++part) quantise_32(x + 32 * part, out, part);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
