// Q2_K: sixteen groups of 16 two-bit numbers with 4-bit scales and minima. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q2_K {
    using Block = BlockQ2_K;
    static constexpr int blocks = 1, group = 16, offset = 0, peak = 3;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float* min) {
        const float d = half_to_float(b->d), dmin = half_to_float(b->dmin);
        uint8_t low[16], high[16];
        store(low, load<U8x16>(b->scales) & 15);
        store(high, load<U8x16>(b->scales) >> 4);
        for (int i = 0; i < 16; i += 8) {
            store(scale + i, bytes_to_floats(low + i) * d);
            store(min + i, bytes_to_floats(high + i) * dmin);
        }
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        const int shift = quarter % 2 * 4;
        return fields(b->q + quarter / 2 * 32, shift, shift + 2, 3);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
