// Q6_K: sixteen groups of 16 six-bit numbers, less 32, with 8-bit scales. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q6_K {
    using Block = BlockQ6_K;
    static constexpr int blocks = 1, group = 16, offset = 32, peak = 63;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float*) {
        const float d = half_to_float(b->d);
        for (int i = 0; i < 16; i += 8) store(scale + i, bytes_to_floats(b->scales + i) * d);
    }
    static LLAMERO_INLINE U8x32 quants(const Block* b, int part) {
        const int half = part / 4, quarter = part % 4;
        const U8x32 low = load<U8x32>(b->q + 64 * half + 32 * (quarter % 2));
        const U8x32 upper = load<U8x32>(b->upper + 32 * half);
        return field(low, quarter / 2 * 4, 15) | field(upper, 2 * quarter - 4, 48);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
