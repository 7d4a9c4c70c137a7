// The dot path: few rows of activations, weights read once from where they lie. Bound by memory.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The running sums of one output, in as many chains as keep additions from waiting for each other.
template <int Chains>
struct Sums {
    Wide scaled[Chains];
    F32x8 low = {};  // what offsets or minima take away, in some unit

    LLAMERO_INLINE Sums() {
        for (Wide& chain : scaled) chain = zero_wide();
    }
    LLAMERO_INLINE float total(float unit) const {
        Wide all = scaled[0];
        for (int c = 1; c < Chains; ++c) all = add(all, scaled[c]);
        return sum(halves_sum(all) - low * unit);
    }
};

// The unit of Sums::low. Groups of 16 count sums of activations in -128ths.
template <class C>
constexpr float low_unit = (C::mins ? 1.0f : float(dot_offset<C>)) * (C::group == 16 ? -1.0f / 128 : 1.0f);

// The scales of 256 weights times those of their activations, and what its offsets or minima take away.
template <class C>
LLAMERO_INLINE void join_scales(const float* scale, const float* min, const Int8Block& x, float* joint, F32x8& low) {
    if constexpr (C::group == 32) {
        store(joint, load<F32x8>(scale) * load<F32x8>(x.scale));
        if (C::mins) low += load<F32x8>(min) * load<F32x8>(x.total);
        if (dot_offset<C>) low += load<F32x8>(scale) * load<F32x8>(x.total);
    } else {
        for (int g = 0; g < 16; g += 8) {
            const F32x8 dx = twice(x.scale + g / 2), w = load<F32x8>(scale + g) * dx;
            store(joint + g, w);
            low += (C::mins ? load<F32x8>(min + g) * dx : w) * biased_to_float(load<I32x8>(x.starts16 + g));
        }
    }
}

// 256 values of a weight row.
template <class C, int N, int Chains>
LLAMERO_INLINE void dot_stretch(const typename C::Block* blocks, const Int8Block* const (&x)[N],
                                Sums<Chains> (&sums)[N]) {
    alignas(32) float scale[256 / C::group], min[256 / C::group], joint[N][256 / C::group];
    C::scales(blocks, scale, min);
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) join_scales<C>(scale, min, *x[r], joint[r], sums[r].low);
    keep_in_memory(joint);
    LLAMERO_UNROLL
    for (int quarter = 0; quarter < 4; ++quarter) {
        const Quants w = offset_quants<C>(blocks, quarter, dot_offset<C>);
        LLAMERO_UNROLL
        for (int r = 0; r < N; ++r)
            add_scaled<C::group>(sums[r].scaled[quarter % Chains], products<goes_signed<C>>(w, x[r]->q + 64 * quarter),
                                 joint[r] + quarter * 64 / C::group);
    }
}

// One weight row with N rows of activations.
template <class C, int N>
LLAMERO_INLINE void dot_row(const uint8_t* p, const void* prepared, int64_t first, int64_t k, float* y, int64_t ldy) {
    const Int8Block* x[N];
    Sums<N == 1 ? 2 : 1> sums[N];
    for (int r = 0; r < N; ++r) x[r] = Int8Row::at(prepared, first + r, k);
    for (int64_t at = 0; at < k; at += 256, p += stretch_bytes<C>) {
        prefetch_stream(p, stretch_bytes<C>);
        dot_stretch<C>(Stretch<C>(p, k - at), x, sums);
        for (int r = 0; r < N; ++r) ++x[r];
    }
    for (int r = 0; r < N; ++r) y[r * ldy] = sums[r].total(low_unit<C>);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class C>
void dot_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j)
        in_tiles<4>(0, n, [&](int64_t i, auto rows) {
            dot_row<C, rows>(w.data + j * w.row_bytes, prepared, i, w.k, y + i * ldy + j, ldy);
        });
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
