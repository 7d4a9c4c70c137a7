// The dot path: few rows of activations, weights read once from where they lie. Bound by memory.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The running sums of one output.
struct Sums {
    Wide scaled = zero_wide();
    F32x8 low = {};  // what offsets or minima take away, in some unit

    LLAMERO_INLINE float total(float unit) const { return sum(halves_sum(scaled) - low * unit); }
};

template <class C>
using Vectors = F32x8[256 / C::group / 8];
template <class C>
using StretchProducts = Products256<C::group, fields_of<C>>;

// The unit of Sums::low. Groups of 16 count sums of activations in -128ths.
template <class C>
constexpr float low_unit = (C::mins ? 1.0f : float(dot_offset<C>)) * (C::group == 16 ? -1.0f / 128 : 1.0f);

// The scales of 256 weights times those of their activations, and what its offsets or minima take away.
template <class C>
LLAMERO_INLINE void join_scales(const Vectors<C>& scale, const Vectors<C>& min, const Int8Block& x, Vectors<C>& joint,
                                F32x8& low) {
    if constexpr (C::group == 32) {
        joint[0] = scale[0] * load<F32x8>(x.scale);
        if (C::mins) low += min[0] * load<F32x8>(x.total);
        if (dot_offset<C>) low += scale[0] * load<F32x8>(x.total);
    } else {
        for (int i = 0; i < 2; ++i) {
            const F32x8 dx = twice(x.scale + 4 * i);
            joint[i] = scale[i] * dx;
            low += (C::mins ? min[i] * dx : joint[i]) * biased_to_float(load<I32x8>(x.starts16 + 8 * i));
        }
    }
}

// Begins the products of a stretch of one weight row with N rows of activations.
template <class C, int N>
LLAMERO_INLINE void start_products(const Vectors<C>& scale, const Vectors<C>& min, const Int8Block* const (&x)[N],
                                   StretchProducts<C> (&products)[N], Sums (&sums)[N]) {
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) {
        Vectors<C> joint;
        join_scales<C>(scale, min, *x[r], joint, sums[r].low);
        products[r].start(joint);
    }
}

template <class C, int N>
LLAMERO_INLINE void add_quarter(int quarter, const Quants& w, const Int8Block* const (&x)[N],
                                StretchProducts<C> (&products)[N], Sums (&sums)[N]) {
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r)
        products[r].template multiply<goes_signed<C>>(quarter, w, x[r]->q + 64 * quarter, sums[r].scaled);
}

template <class C, int N>
LLAMERO_INLINE void finish_products(const StretchProducts<C> (&products)[N], Sums (&sums)[N]) {
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) products[r].finish(sums[r].scaled);
}

// 256 values of a weight row.
template <class C, int N>
LLAMERO_INLINE void dot_stretch(const typename C::Block* blocks, const Int8Block* const (&x)[N], Sums (&sums)[N]) {
    Vectors<C> scale, min;
    C::scales(blocks, scale, min);
    StretchProducts<C> products[N];
    start_products<C>(scale, min, x, products, sums);
    LLAMERO_UNROLL
    for (int quarter = 0; quarter < 4; ++quarter)
        add_quarter<C>(quarter, dot_quants<C>(blocks, quarter), x, products, sums);
    finish_products<C>(products, sums);
}

// The last `count` < 8 blocks of a row. Activations are zero behind its end.
template <class C, int N>
LLAMERO_INLINE void dot_end(const typename C::Block* blocks, int64_t count, const Int8Block* const (&x)[N],
                            Sums (&sums)[N]) {
    Vectors<C> scale = {}, min = {};
    for (int64_t i = 0; i < count; ++i) {
        scale[0][i] = half_to_float(blocks[i].d);
        if constexpr (C::mins) min[0][i] = -half_to_float(blocks[i].m);
    }
    StretchProducts<C> products[N];
    start_products<C>(scale, min, x, products, sums);
    LLAMERO_UNROLL
    for (int quarter = 0; quarter < 4; ++quarter) {
        const typename C::Block* b = blocks + 2 * quarter;
        Quants w = {};
        if (2 * quarter + 1 < count) {
            w = dot_quants<C>(b, 0);
        } else if (2 * quarter < count) {
            const typename C::Block twice[2] = {*b, *b};
            w = dot_quants<C>(twice, 0);
        }
        add_quarter<C>(quarter, w, x, products, sums);
    }
    finish_products<C>(products, sums);
}

// One weight row with N rows of activations.
template <class C, int N>
LLAMERO_INLINE void dot_row(const uint8_t* p, const void* prepared, int64_t first, int64_t k, float* y, int64_t ldy) {
    const Int8Block* x[N];
    Sums sums[N];
    for (int r = 0; r < N; ++r) x[r] = Int8Row::at(prepared, first + r, k);
    int64_t left = k;
    for (; left >= 256; left -= 256, p += stretch_bytes<C>) {
        prefetch_stream(p, stretch_bytes<C>);
        dot_stretch<C>(reinterpret_cast<const typename C::Block*>(p), x, sums);
        LLAMERO_UNROLL
        for (int r = 0; r < N; ++r) ++x[r];
    }
    if constexpr (C::blocks > 1)
        if (left > 0) dot_end<C>(reinterpret_cast<const typename C::Block*>(p), left / 32, x, sums);
    for (int r = 0; r < N; ++r) y[r * ldy] = sums[r].total(low_unit<C>);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class C>
void dot_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                 void*) {
    const uint8_t* row = w.data + begin * w.row_bytes;
    if (n == 1) {  // the case that counts: no loop but over the rows
        for (int64_t j = begin; j < end; ++j, row += w.row_bytes) dot_row<C, 1>(row, prepared, 0, w.k, y + j, ldy);
        return;
    }
    for (int64_t j = begin; j < end; ++j, row += w.row_bytes)
        in_tiles<4>(0, n, [&](int64_t i, auto rows) { dot_row<C, rows>(row, prepared, i, w.k, y + i * ldy + j, ldy); });
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
