// The tile path works on a panel: weight rows side by side in the lanes of the level's widest registers, four
// neighbouring bytes (or one float) of each row to a lane. This file chooses the level's vectors and packs panels.
#pragma once
#include <type_traits>

#include "../products.h"
#include "vec.h"

#if defined(__AVX512F__)
#include "lanes_avx512.h"
#elif defined(__AVX2__)
#include "lanes_avx2.h"
#else
#include "lanes_plain.h"
#endif

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Transpose `columns` 4-byte columns of `lanes` rows: out + c * out_stride holds column c of all rows.
// Reads and writes whole groups of four columns.
inline void interleave(const void* rows, int64_t stride, int64_t columns, void* out, int64_t out_stride) {
    const uint8_t* from = static_cast<const uint8_t*>(rows);
    uint8_t* to = static_cast<uint8_t*>(out);
    for (int64_t c = 0; c < columns; c += 4) interleave4(from + 4 * c, stride, to + c * out_stride, out_stride);
}

LLAMERO_INLINE Floats subtract_product(Floats c, Floats a, Floats b) { return c - a * b; }

// The integer sums of a tile: so many bytes of k at a time, from the panel and from at(r) in row r of the activations.
#if defined(__ARM_FEATURE_MATMUL_INT8)
template <class, int Rows>
using TileDots = TwoByTwo<Rows>;
#else
template <class Dots, int Rows>
struct TileDots {
    static constexpr int bytes = 4;
    Dots rows[Rows];

    LLAMERO_INLINE void start(int r, const int32_t* biased) { rows[r].start(biased); }
    template <class At>
    LLAMERO_INLINE void add(const uint8_t* panel, const At& at) {
        const auto weights = Dots::weights(panel);
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) rows[r].add(weights, at(r));
    }
    LLAMERO_INLINE Floats scaled(int r, int c, const float* scale, const float* shift) {
        return rows[r].scaled(c, scale, shift);
    }
};
#endif

// Calls run(row, rows) for all n rows of activations, as many as Rows at a time; `rows` is a constant to the callee.
template <int Rows, class Run>
LLAMERO_INLINE void in_tiles(int64_t row, int64_t n, const Run& run) {
    for (; row + Rows <= n; row += Rows) run(row, std::integral_constant<int, Rows>());
    if constexpr (Rows > 1) in_tiles<(Rows + 1) / 2>(row, n, run);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
