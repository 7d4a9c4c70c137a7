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
    static constexpr bool mins = false;

    static LLAMERO_INLINE void scales(const Block* b, float* scale, float*) {
        const float d = half_to_float(b->d);
        uint8_t six[8];
        for (int i = 0; i < 8; ++i) {
            const int low = b->scales_low[i / 2] >> 4 * (i % 2) & 15, high = b->scales_high >> 2 * i & 3;
            six[i] = uint8_t(low | high << 4);
        }
        store(scale, (bytes_to_floats(six) - 32.0f) * d);
    }
    static LLAMERO_INLINE U8x32 quants(const Block* b, int part) {
        return lookup(uneven_steps, nibbles(b->q + 16 * part));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
