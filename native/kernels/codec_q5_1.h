// Q5_1: a scale, a minimum and 32 five-bit numbers. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q5_1 {
    using Block = BlockQ5_1;
    static constexpr int blocks = 8, group = 32, offset = 0, peak = 31;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8* min) {
        *scale = halves_apart<sizeof(Block)>(&b->d);
        *min = -halves_apart<sizeof(Block)>(&b->m);
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return plus_bits(nibbles(b[0].q, b[1].q), b[0].fifth, b[1].fifth, 16);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
