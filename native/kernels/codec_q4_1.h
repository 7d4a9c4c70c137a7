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
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float* min) {
        store(scale, halves_apart(&b->d, sizeof(Block)));
        store(min, -halves_apart(&b->m, sizeof(Block)));
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        b += 2 * quarter;
        return nibbles(b[0].q, b[1].q);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
