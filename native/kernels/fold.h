// Weights whose groups have whole numbers for scales, small enough that scale times quant is still a byte: then 256 of
// them share one float scale, and nothing is lost.
#pragma once
#include "codec_q2_k.h"
#include "codec_q3_k.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Byte 4 * quarter + L of sixteen, all over 128-bit part L.
LLAMERO_INLINE Quants over_groups(__m128i sixteen, int quarter) {
    const __m512i part = _mm512_setr_epi64(0, 0, 0x0101010101010101, 0x0101010101010101, 0x0202020202020202,
                                           0x0202020202020202, 0x0303030303030303, 0x0303030303030303);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), plus(part, uint8_t(4 * quarter)));
}

// Bytes times a size for each 16; the products are bytes too. A 16-bit product of two bytes has both of theirs.
LLAMERO_INLINE Quants times(Quants q, Quants sizes) {
    return _mm512_mullo_epi16(q, _mm512_and_si512(sizes, _mm512_set1_epi16(255)));
}

// Weights as scale * (byte - offset), for all of a block. False for types that do not fold.
template <class C>
struct Fold {
    static constexpr bool folds = false;
};

template <>
struct Fold<Q2_K> {
    static constexpr bool folds = true;
    static constexpr int offset = 0;

    explicit LLAMERO_INLINE Fold(const BlockQ2_K* b)
        : block_(b), sizes_(_mm_and_si128(load<__m128i>(b->scales), _mm_set1_epi8(15))) {}
    LLAMERO_INLINE float scale() const { return half_to_float(block_->d); }
    LLAMERO_INLINE Quants quants(int quarter) const {
        return times(Q2_K::quants(block_, quarter), over_groups(sizes_, quarter));
    }

private:
    const BlockQ2_K* block_;
    __m128i sizes_;
};

// Scales are -32 to 31, quants -4 to 3: products would need a byte from -124 to 128, so all signs are turned.
template <>
struct Fold<Q3_K> {
    static constexpr bool folds = true;
    static constexpr int offset = 128;

    explicit LLAMERO_INLINE Fold(const BlockQ3_K* b) : block_(b) {
        const __m128i scale = _mm_sub_epi8((__m128i)Q3_K::SixBits(b).all(), _mm_set1_epi8(32));
        sizes_ = _mm_abs_epi8(scale);
        turned_ = _mm_cmpgt_epi8(scale, _mm_set1_epi8(-1));
        const __m128i fours = _mm_add_epi8(_mm_add_epi8(scale, scale), _mm_add_epi8(scale, scale));
        start_ = _mm_sub_epi8(_mm_add_epi8(fours, _mm_set1_epi8(char(offset))), turned_);
    }
    LLAMERO_INLINE float scale() const { return -half_to_float(block_->d); }
    LLAMERO_INLINE Quants quants(int quarter) const {
        const Quants products = times(Q3_K::quants(block_, quarter), over_groups(sizes_, quarter));
        // -p is (p xor -1) - -1
        return _mm512_add_epi8(_mm512_xor_si512(products, over_groups(turned_, quarter)), over_groups(start_, quarter));
    }

private:
    const BlockQ3_K* block_;
    __m128i sizes_, turned_, start_;  // of each group; where a scale is positive, products are turned
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
