// What a block type is made of, and all of them. A codec says how a block of stored numbers reads:
//
//     values   how many values a block holds             group   how many neighbours share a scale (16 or 32)
//     offset   weight = scale * (quant - offset), or     mins    weight = scale * quant - min
//     peak     the largest quant
//
//     scales(block, scale, min)   the block's values / group scales, and minima where it has them
//     quants(block, part)         quants 32 part to 32 part + 31
//
// The same two functions serve the dot path, the panels of the tile path and plain decoding, on every level.
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

// Quants as the dot path takes them. A level that cannot multiply unsigned bytes above 127 has them with a sign.
template <class C>
constexpr bool goes_signed = C::peak > 127 && !full_bytes;
template <class C>
constexpr int dot_offset = goes_signed<C> ? 0 : C::offset;

// The quants of a block as bytes that stand for weight / scale + offset.
template <class C>
LLAMERO_INLINE U8x32 offset_quants(const typename C::Block& block, int part, int offset) {
    const U8x32 q = C::quants(block, part);
    return offset == C::offset ? q : q + uint8_t(offset - C::offset);
}

// Decode k values, a whole number of blocks.
template <class C>
void decode_row(const uint8_t* row, float* out, int64_t k) {
    for (int64_t at = 0; at < k; at += C::values, row += sizeof(typename C::Block)) {
        const typename C::Block& block = *reinterpret_cast<const typename C::Block*>(row);
        float scale[C::values / C::group], min[C::values / C::group] = {};
        C::scales(block, scale, min);
        for (int part = 0; part < C::values / 32; ++part) {
            uint8_t q[32];
            store(q, C::quants(block, part));
            for (int i = 0; i < 32; ++i) {
                const int g = (32 * part + i) / C::group;
                out[at + 32 * part + i] = scale[g] * float(q[i] - C::offset) - min[g];
            }
        }
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
