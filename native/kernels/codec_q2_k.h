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
    static constexpr Raised raised = Raised::Pairs32;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8* min) {
        const float d = half_to_float(b->d), dmin = half_to_float(b->dmin);
        uint8_t low[16], high[16];
        store(low, load<U8x16>(b->scales) & 15);
        store(high, load<U8x16>(b->scales) >> 4);
        for (int i = 0; i < 2; ++i) {
            scale[i] = bytes_to_floats(low + 8 * i) * d;
            min[i] = bytes_to_floats(high + 8 * i) * dmin;
        }
    }
    static LLAMERO_INLINE U8x16 minima(const Block* b) { return load<U8x16>(b->scales) >> 4; }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        const int shift = quarter % 2 * 4;
        return fields(b->q + quarter / 2 * 32, shift, shift + 2, 3);
    }
    static LLAMERO_INLINE Quants raised_quants(const Block* b, int quarter) {
        const int shift = quarter % 2 * 4;
        return masked(b->q + quarter / 2 * 32, uint8_t(3 << shift), uint8_t(12 << shift));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
