// Q5_K: eight groups of 32 five-bit numbers with six-bit scales and minima. See codec.h for the terms.
#pragma once
#include "../blocks.h"
#include "codec_q4_k.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Q5_K {
    using Block = BlockQ5_K;
    static constexpr int blocks = 1, group = 32, offset = 0, peak = 31;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float* min) {
        const SixBitPairs six(b->scales);
        store(scale, bytes_to_floats(reinterpret_cast<const uint8_t*>(six.scale)) * half_to_float(b->d));
        store(min, bytes_to_floats(reinterpret_cast<const uint8_t*>(six.min)) * half_to_float(b->dmin));
    }
    static LLAMERO_INLINE U8x32 quants(const Block* b, int part) {
        const U8x32 both = load<U8x32>(b->q + part / 2 * 32), fifth = load<U8x32>(b->fifth);
        const U8x32 top = part < 4 ? fifth << uint8_t(4 - part) : fifth >> uint8_t(part - 4);
        return (part % 2 ? both >> 4 : both & 15) | (top & 16);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
