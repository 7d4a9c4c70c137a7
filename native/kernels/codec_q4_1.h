// Q4_1: a scale, a minimum and 32 nibbles. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q4_1 {
    using Block = BlockQ4_1;
    static constexpr int blocks = 8, group = 32, offset = 0, peak = 15;
    static constexpr Raised raised = Raised::Nibbles16;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8* min) {
        *scale = halves_apart<sizeof(Block)>(&b->d);
        *min = -halves_apart<sizeof(Block)>(&b->m);
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return nibbles(b[0].q, b[1].q);
    }
    static LLAMERO_INLINE Quants raised_quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return masked_nibbles(b[0].q, b[1].q);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
