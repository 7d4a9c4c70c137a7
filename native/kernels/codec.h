// What a block type is made of, and all of them. A codec says how a block of stored numbers reads:
//
//     blocks   how many stored blocks hold 256 values    group   how many neighbours share a scale (16 or 32)
//     offset   weight = scale * (quant - offset), or     mins    weight = scale * quant - min
//     peak     the largest quant
//     raised   how fields of bytes may stay where they are, see quants.h
//
//     scales(blocks, scale, min)   the 256 / group scales, and minima where the type has them, eight to a vector
//     quants(blocks, quarter)      quants 64 quarter to 64 quarter + 63
//     raised_quants(...)           the same, with fields where they are, if `raised` says so
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

// The last blocks of a row that is no whole number of stretches, `count` < 256 values, filled up with zeros.
template <class C>
class RowEnd {
public:
    LLAMERO_INLINE RowEnd(const uint8_t* p, int64_t count) {
        uint8_t* out = reinterpret_cast<uint8_t*>(blocks_);
        for (int64_t i = 0; i < C::blocks; ++i, p += sizeof(Block), out += sizeof(Block)) {
            if (32 * i < count) std::memcpy(out, p, sizeof(Block));
            else std::memset(out, 0, sizeof(Block));
        }
    }
    RowEnd(const RowEnd&) = delete;
    LLAMERO_INLINE const typename C::Block* blocks() const { return blocks_; }

private:
    using Block = typename C::Block;
    Block blocks_[C::blocks];
};

// Calls f with the stretch of `count` values at p: where it lies, or as a RowEnd.
template <class C, class F>
LLAMERO_INLINE auto with_stretch(const uint8_t* p, int64_t count, const F& f) {
    if (C::blocks == 1 || count >= 256) return f(reinterpret_cast<const typename C::Block*>(p));
    const RowEnd<C> end(p, count);
    return f(end.blocks());
}

// Quants as the dot path takes them. A level that cannot multiply unsigned bytes above 127 has them with a sign.
template <class C>
constexpr bool goes_signed = C::peak > 127 && !full_bytes;
template <class C>
constexpr int dot_offset = goes_signed<C> ? 0 : C::offset;

// What an offset of 128 is shifted right by to be C's.
template <class C>
constexpr int offset_shift = C::offset ? __builtin_ctz(128 / C::offset) : 0;

// Quants as bytes that stand for weight / scale + offset.
template <class C>
LLAMERO_INLINE Quants offset_quants(const typename C::Block* blocks, int quarter, int offset) {
    const Quants q = C::quants(blocks, quarter);
    return offset == C::offset ? q : plus(q, uint8_t(offset - C::offset));
}

// Quants for the dot path: with dot_offset<C>, and with fields where they are on levels that prefer it.
template <class C>
constexpr Raised fields_of = raises ? C::raised : Raised::No;
template <class C>
LLAMERO_INLINE Quants dot_quants(const typename C::Block* blocks, int quarter) {
    if constexpr (fields_of<C> != Raised::No) return C::raised_quants(blocks, quarter);
    else return offset_quants<C>(blocks, quarter, dot_offset<C>);
}

// The scales and minima of a stretch as plain floats; `min` is left alone where the type has none.
template <class C>
LLAMERO_INLINE void stored_scales(const typename C::Block* blocks, float* scale, float* min) {
    F32x8 s[256 / C::group / 8], m[256 / C::group / 8];
    C::scales(blocks, s, m);
    for (int i = 0; i < 256 / C::group / 8; ++i) {  // a copy of all at once would wait for two stores to memory
        store(scale + 8 * i, s[i]);
        if (C::mins) store(min + 8 * i, m[i]);
    }
}

// Decode k values, a whole number of blocks.
template <class C>
void decode_row(const uint8_t* row, float* out, int64_t k) {
    for (int64_t at = 0; at < k; at += 256, row += stretch_bytes<C>)
        with_stretch<C>(row, k - at, [&](const typename C::Block* blocks) {
            float scale[256 / C::group], min[256 / C::group] = {};
            stored_scales<C>(blocks, scale, min);
            uint8_t q[256];
            for (int quarter = 0; quarter < 4; ++quarter) store_quants(q + 64 * quarter, C::quants(blocks, quarter));
            for (int i = 0; i < 256 && at + i < k; ++i)
                out[at + i] = scale[i / C::group] * float(q[i] - C::offset) - min[i / C::group];
        });
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
