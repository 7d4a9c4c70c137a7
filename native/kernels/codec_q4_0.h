// Q4_0: a scale and 32 nibbles, less 8. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q4_0 {
    using Block = BlockQ4_0;
    static constexpr int blocks = 8, group = 32, offset = 8, peak = 15;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float*) {
        store(scale, halves_apart(&b->d, sizeof(Block)));
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return nibbles(b[0].q, b[1].q);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
