// The dot path: few rows of activations, weights read once from where they lie. Bound by memory.
#pragma once
#include "codec.h"
#include "int8.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The running sums of one output.
struct Sums {
    F32x8 scaled[2] = {};  // two, so that neither waits for the other's last addition
    F32x8 low = {};        // what offsets or minima take away

    LLAMERO_INLINE float total(int offset) const { return sum(scaled[0] + scaled[1] - low * float(offset ? offset : 1)); }
};

// The products of 32 weights with the activations from value `at` on.
template <class C>
LLAMERO_INLINE F32x8 dot_part(I32x8 start, U8x32 w, const Int8Row& x, int64_t at) {
    const I8x32 q = load<I8x32>(x.q + at);
    return to_float(goes_signed<C> ? dot_signed(start, (I8x32)w, q) : dot(start, w, q));
}

// A block of 32 values: one scale.
template <class C, int N>
LLAMERO_INLINE void dot_block(const uint8_t* p, const Int8Row (&x)[N], int64_t at, int turn, Sums (&sums)[N]) {
    const typename C::Block& block = *reinterpret_cast<const typename C::Block*>(p);
    float scale, min;
    C::scales(block, &scale, &min);
    const U8x32 w = level_quants<C>(block, 0);
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) {
        const I32x8 start = remaining_offset<C> ? pair(x[r].sum + at / 16) * -remaining_offset<C> : I32x8{};
        sums[r].scaled[turn] += dot_part<C>(start, w, x[r], at) * (scale * x[r].scale[at / 32]);
        if (C::mins) sums[r].low += F32x8{min * x[r].total[at / 32]};
    }
}

// The scales of a superblock times those of its activations, and what its offsets or minima take away.
template <class C>
LLAMERO_INLINE void join_scales(const float* scale, const float* min, const Int8Row& x, int64_t at, float* joint,
                                F32x8& low) {
    for (int g = 0; g < C::values / C::group; g += 8) {
        if (C::group == 32) {
            store(joint + g, load<F32x8>(scale + g) * load<F32x8>(x.scale + at / 32 + g));
            if (C::mins) low += load<F32x8>(min + g) * load<F32x8>(x.total + at / 32 + g);
            if (remaining_offset<C>) low += load<F32x8>(scale + g) * load<F32x8>(x.total + at / 32 + g);
        } else {
            const F32x8 dx = twice(x.scale + at / 32 + g / 2), w = load<F32x8>(scale + g) * dx;
            const F32x8 sums = to_float(load<I32x8>(x.sum + at / 16 + g));
            store(joint + g, w);
            low += (C::mins ? load<F32x8>(min + g) * dx : w) * sums;
        }
    }
}

// A superblock of 256 values.
template <class C, int N>
LLAMERO_INLINE void dot_superblock(const uint8_t* p, const Int8Row (&x)[N], int64_t at, Sums (&sums)[N]) {
    const typename C::Block& block = *reinterpret_cast<const typename C::Block*>(p);
    alignas(32) float scale[C::values / C::group], min[C::values / C::group], joint[N][C::values / C::group];
    C::scales(block, scale, min);
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) join_scales<C>(scale, min, x[r], at, joint[r], sums[r].low);
    LLAMERO_UNROLL
    for (int part = 0; part < C::values / 32; ++part) {
        const U8x32 w = level_quants<C>(block, part);
        LLAMERO_UNROLL
        for (int r = 0; r < N; ++r) {
            const F32x8 products = dot_part<C>(I32x8{}, w, x[r], at + 32 * part);
            const float* s = joint[r] + part * 32 / C::group;
            sums[r].scaled[part % 2] += products * (C::group == 32 ? F32x8{} + *s : spread(s));
        }
    }
}

// y[i * ldy + j] for N rows i of activations and weight rows [begin, end).
template <class C, int N>
void dot_rows(const Matrix& w, const void* prepared, int64_t first, float* y, int64_t ldy, int64_t begin, int64_t end) {
    using Block = typename C::Block;
    constexpr uintptr_t ahead = 4096;  // bytes
    Int8Row x[N];
    for (int r = 0; r < N; ++r) x[r] = Int8Row::at(prepared, first + r, w.k);
    for (int64_t j = begin; j < end; ++j) {
        const uint8_t* p = w.data + j * w.row_bytes;
        Sums sums[N];
        int64_t at = 0;
        if constexpr (C::values == 32) {
            for (; at + 64 <= w.k; at += 64, p += 2 * sizeof(Block)) {
                prefetch(p, ahead);
                dot_block<C>(p, x, at, 0, sums);
                dot_block<C>(p + sizeof(Block), x, at + 32, 1, sums);
            }
            if (at < w.k) dot_block<C>(p, x, at, 0, sums);
        } else {
            for (; at < w.k; at += C::values, p += sizeof(Block)) {
                for (uintptr_t line = 0; line < sizeof(Block); line += 64) prefetch(p, ahead + line);
                dot_superblock<C>(p, x, at, sums);
            }
        }
        for (int r = 0; r < N; ++r) y[(first + r) * ldy + j] = sums[r].total(C::mins ? 0 : remaining_offset<C>);
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
