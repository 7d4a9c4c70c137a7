// Q4_K: eight groups of 32 nibbles with six-bit scales and minima. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "quants.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Twelve bytes to eight scales and eight minima: the first four of each are the low six bits of bytes 0-3 and 4-7; the
// others have low nibbles in bytes 8-11 (scales low, minima high) and their upper pairs in the top bits of bytes 0-7.
struct SixBitPairs {
    uint32_t scale[2], min[2];

    explicit LLAMERO_INLINE SixBitPairs(const uint8_t* bytes) {
        const uint32_t a = load<uint32_t>(bytes), b = load<uint32_t>(bytes + 4), c = load<uint32_t>(bytes + 8);
        scale[0] = a & 0x3f3f3f3f;
        scale[1] = (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030);
        min[0] = b & 0x3f3f3f3f;
        min[1] = (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030);
    }
};

struct Q4_K {
    using Block = BlockQ4_K;
    static constexpr int blocks = 1, group = 32, offset = 0, peak = 15;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float* min) {
        const SixBitPairs six(b->scales);
        store(scale, bytes_to_floats(reinterpret_cast<const uint8_t*>(six.scale)) * half_to_float(b->d));
        store(min, bytes_to_floats(reinterpret_cast<const uint8_t*>(six.min)) * half_to_float(b->dmin));
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) { return fields(b->q + 32 * quarter, 0, 4, 15); }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
