// Q3_K: sixteen groups of 16 three-bit numbers, less 4, with six-bit scales, less 32. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q3_K {
    using Block = BlockQ3_K;
    static constexpr int blocks = 1, group = 16, offset = 4, peak = 7;
    static constexpr Raised raised = Raised::No;
    static constexpr bool mins = false;

    // Scales 0-7 have their low nibbles in the low halves of bytes 0-7, scales 8-15 in the high halves; byte 8 + i
    // holds the upper pairs of scales i, i + 4, i + 8 and i + 12.
    struct SixBits {
        uint64_t first, second;  // eight scales each, a byte each

        explicit LLAMERO_INLINE SixBits(const Block* b) {
            const uint64_t nibble = load<uint64_t>(b->scales);
            const uint32_t pairs = load<uint32_t>(b->scales + 8);
            const uint64_t upper = pairs | uint64_t(pairs >> 2) << 32;
            const uint64_t low = 0x0f0f0f0f0f0f0f0f, two = 0x0303030303030303;
            first = (nibble & low) | (upper & two) << 4;
            second = (nibble >> 4 & low) | (upper >> 4 & two) << 4;
        }
        LLAMERO_INLINE U8x16 all() const { return (U8x16)U64x2{first, second}; }
    };
    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8*) {
        const float d = half_to_float(b->d);
        const SixBits six(b);
        scale[0] = (bytes_to_floats(reinterpret_cast<const uint8_t*>(&six.first)) - 32.0f) * d;
        scale[1] = (bytes_to_floats(reinterpret_cast<const uint8_t*>(&six.second)) - 32.0f) * d;
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        const int shift = quarter % 2 * 4, bit = 2 * quarter;
        return merge(fields(b->q + quarter / 2 * 32, shift, shift + 2, 3), fields(b->third, bit - 2, bit - 1, 4));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
