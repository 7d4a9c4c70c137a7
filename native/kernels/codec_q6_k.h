// Q6_K: sixteen groups of 16 six-bit numbers, less 32, with 8-bit scales. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q6_K {
    using Block = BlockQ6_K;
    static constexpr int blocks = 1, group = 16, offset = 32, peak = 63;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8*) {
        const float d = half_to_float(b->d);
        for (int i = 0; i < 2; ++i) scale[i] = bytes_to_floats(b->scales + 8 * i) * d;
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        const int half = quarter / 2, high = quarter % 2;
        const Quants low = two(b->q + 64 * half, b->q + 64 * half + 32);
        return merge(field(low, 4 * high, 15), fields(b->upper + 32 * half, 4 * high - 4, 4 * high - 2, 48));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
