// Q5_K: eight groups of 32 five-bit numbers with six-bit scales and minima. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "codec_q4_k.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q5_K {
    using Block = BlockQ5_K;
    static constexpr int blocks = 1, group = 32, offset = 0, peak = 31;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8* min) {
        six_bit_scales(b->scales, &b->d, scale, min);
    }
    static LLAMERO_INLINE U8x16 minima(const Block* b) { return (U8x16)U64x2{SixBitPairs(b->scales).min, 0}; }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        const int bit = 2 * quarter;
        return merge(fields(b->q + 32 * quarter, 0, 4, 15), fields(b->fifth, bit - 4, bit - 3, 16));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
