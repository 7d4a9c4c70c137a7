// Q4_1: a scale, a minimum and 32 nibbles. The terms of a codec are explained in codec.h.
#pragma once
#include "../blocks.h"
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q4_1 {
    using Block = BlockQ4_1;
    static constexpr int values = 32, group = 32, offset = 0, peak = 15;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block& b, float* scale, float* min) {
        *scale = half_to_float(b.d);
        *min = -half_to_float(b.m);
    }
    static LLAMERO_INLINE U8x32 quants(const Block& b, int) { return nibbles(b.q); }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
