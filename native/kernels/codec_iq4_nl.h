// IQ4_NL: a scale and 32 nibbles that index a table. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The table -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, plus 128.
constexpr uint8_t uneven_steps[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

struct IQ4_NL {
    using Block = BlockIQ4_NL;
    static constexpr int blocks = 8, group = 32, offset = 128, peak = 255;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8*) {
        *scale = halves_apart<sizeof(Block)>(&b->d);
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return lookup(uneven_steps, nibbles(b[0].q, b[1].q));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
