// IQ4_XS: eight groups of 32 nibbles that index IQ4_NL's table, with six-bit scales, less 32. See codec.h.
#pragma once
#include "../blocks.h"
#include "codec_iq4_nl.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct IQ4_XS {
    using Block = BlockIQ4_XS;
    static constexpr int blocks = 1, group = 32, offset = 128, peak = 255;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8*) {
        const I32x8 low = I32x8{} + load<int32_t>(b->scales_low), high = I32x8{} + b->scales_high;
        const I32x8 four = low >> I32x8{0, 4, 8, 12, 16, 20, 24, 28} & 15;
        const I32x8 two = high >> I32x8{0, 2, 4, 6, 8, 10, 12, 14} & 3;
        *scale = to_float((four | two << 4) - 32) * half_to_float(b->d);
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        return lookup(uneven_steps, nibbles(b->q + 32 * quarter, b->q + 32 * quarter + 16));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
