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
    uint64_t scale, min;  // a byte each

    explicit LLAMERO_INLINE SixBitPairs(const uint8_t* bytes) {
        const uint64_t a = load<uint32_t>(bytes), b = load<uint32_t>(bytes + 4), c = load<uint32_t>(bytes + 8);
        scale = (a & 0x3f3f3f3f) | (c & 0x0f0f0f0f) << 32 | (a & 0xc0c0c0c0) << 30;
        min = (b & 0x3f3f3f3f) | (c & 0xf0f0f0f0) << 28 | (b & 0xc0c0c0c0) << 30;
    }
};

// Eight of them as floats, times a superblock's scale of scales and scale of minima.
LLAMERO_INLINE void six_bit_scales(const uint8_t* bytes, const uint16_t* d, F32x8* scale, F32x8* min) {
    const SixBitPairs six(bytes);
    const TwoHalves both(d);
    *scale = bytes_to_floats(reinterpret_cast<const uint8_t*>(&six.scale)) * both.first;
    *min = bytes_to_floats(reinterpret_cast<const uint8_t*>(&six.min)) * both.second;
}

struct Q4_K {
    using Block = BlockQ4_K;
    static constexpr int blocks = 1, group = 32, offset = 0, peak = 15;
    static constexpr Raised raised = Raised::Nibbles32;
    static constexpr bool mins = true;

    static LLAMERO_INLINE void scales(const Block* b, F32x8* scale, F32x8* min) {
        six_bit_scales(b->scales, &b->d, scale, min);
    }
    static LLAMERO_INLINE U8x16 minima(const Block* b) { return (U8x16)U64x2{SixBitPairs(b->scales).min, 0}; }
    static LLAMERO_INLINE Quants quants(const Block* b, int quarter) { return fields(b->q + 32 * quarter, 0, 4, 15); }
    static LLAMERO_INLINE Quants raised_quants(const Block* b, int quarter) { return masked(b->q + 32 * quarter, 15, 240); }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
