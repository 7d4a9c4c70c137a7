// Q8_0: a scale and 32 signed bytes. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q8_0 {
    using Block = BlockQ8_0;
    static constexpr int blocks = 8, group = 32, offset = 128, peak = 255;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8*) {
        *scale = halves_apart<sizeof(Block)>(&b->d);
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return plus(two(b[0].q, b[1].q), 128);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
