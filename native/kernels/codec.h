// What a block type is made of, and all of them. A codec says how a block of stored numbers reads:
//
//     blocks   how many stored blocks hold 256 values    group   how many neighbours share a scale (16 or 32)
//     offset   weight = scale * (quant - offset), or     mins    weight = scale * quant - min
//     peak     the largest quant
//
//     scales(blocks, scale, min)   the 256 / group scales, and minima where the type has them
//     quants(blocks, quarter)      quants 64 quarter to 64 quarter + 63
//
// The same two functions serve the dot path, the panels of the tile path and plain decoding, on every level. Rows come
// in stretches of 256 values; the end of a row of smaller blocks is copied and filled up with zeros first.
#pragma once
#include "codec_iq4_nl.h"
#include "codec_iq4_xs.h"
#include "codec_q2_k.h"
#include "codec_q3_k.h"
#include "codec_q4_0.h"
#include "codec_q4_1.h"
#include "codec_q4_k.h"
#include "codec_q5_0.h"
#include "codec_q5_1.h"
#include "codec_q5_k.h"
#include "codec_q6_k.h"
#include "codec_q8_0.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

template <class C>
constexpr int64_t stretch_bytes = C::blocks * sizeof(typename C::Block);

// The blocks of 256 values, or of the `count` that a row still has.
template <class C>
class Stretch {
public:
    LLAMERO_INLINE Stretch(const uint8_t* p, int64_t count) : blocks_(reinterpret_cast<const Block*>(p)) {
        if (C::blocks > 1 && count < 256) {
            std::memset(static_cast<void*>(end_), 0, sizeof end_);
            std::memcpy(static_cast<void*>(end_), p, count / 32 * sizeof(Block));
            blocks_ = end_;
        }
    }
    Stretch(const Stretch&) = delete;
    LLAMERO_INLINE operator const typename C::Block*() const { return blocks_; }

private:
    using Block = typename C::Block;
    const Block* blocks_;
    Block end_[C::blocks];
};

// Quants as the dot path takes them. A level that cannot multiply unsigned bytes above 127 has them with a sign.
template <class C>
constexpr bool goes_signed = C::peak > 127 && !full_bytes;
template <class C>
constexpr int dot_offset = goes_signed<C> ? 0 : C::offset;

// Quants as bytes that stand for weight / scale + offset.
template <class C>
LLAMERO_INLINE Quants offset_quants(const typename C::Block* blocks, int quarter, int offset) {
    const Quants q = C::quants(blocks, quarter);
    return offset == C::offset ? q : plus(q, uint8_t(offset - C::offset));
}

// Decode k values, a whole number of blocks.
template <class C>
void decode_row(const uint8_t* row, float* out, int64_t k) {
    for (int64_t at = 0; at < k; at += 256, row += stretch_bytes<C>) {
        const Stretch<C> blocks(row, k - at);
        float scale[256 / C::group], min[256 / C::group] = {};
        C::scales(blocks, scale, min);
        uint8_t q[256];
        for (int quarter = 0; quarter < 4; ++quarter) store_quants(q + 64 * quarter, C::quants(blocks, quarter));
        for (int i = 0; i < 256 && at + i < k; ++i)
            out[at + i] = scale[i / C::group] * float(q[i] - C::offset) - min[i / C::group];
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
