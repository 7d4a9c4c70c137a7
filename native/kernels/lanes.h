// The tile path works on a panel: weight rows side by side in the lanes of the level's widest registers, four
// neighbouring bytes (or one float) of each row to a lane. This file chooses the level's vectors and packs panels.
#pragma once
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

// Write (or add to) a row of a tile, of which `valid` outputs exist.
template <int Columns>
LLAMERO_INLINE void store_tile_row(const Floats (&sums)[Columns], float* y, int64_t valid, bool add) {
    if (valid == Columns * lanes) {
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c)
            store_floats(y + c * lanes, add ? load_floats(y + c * lanes) + sums[c] : sums[c]);
        return;
    }
    float all[Columns * lanes];
    for (int c = 0; c < Columns; ++c) store_floats(all + c * lanes, sums[c]);
    for (int64_t j = 0; j < valid; ++j) y[j] = add ? y[j] + all[j] : all[j];
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
