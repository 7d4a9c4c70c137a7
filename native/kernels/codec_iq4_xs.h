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
        uint64_t low = load<uint32_t>(b->scales_low), high = b->scales_high;  // spread to a byte for each group
        low = (low | low << 16) & 0x0000ffff0000ffff;
        low = (low | low << 8) & 0x00ff00ff00ff00ff;
        low = (low | low << 4) & 0x0f0f0f0f0f0f0f0f;
        high = (high | high << 24) & 0x000000ff000000ff;
        high = (high | high << 12) & 0x000f000f000f000f;
        high = (high | high << 6) & 0x0303030303030303;
        const uint64_t six = low | high << 4;
        store(scale, (bytes_to_floats(reinterpret_cast<const uint8_t*>(&six)) - 32.0f) * half_to_float(b->d));
    }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) {
        return lookup(uneven_steps, nibbles(b->q + 32 * quarter, b->q + 32 * quarter + 16));
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
