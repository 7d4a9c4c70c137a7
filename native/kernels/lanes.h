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

// Fetches the weights of the next panel, a few lines at a time between the products of this one: a burst of fetches
// would fill the processor's buffers and hold everything up.
class Ahead {
public:
    // Bytes [from, from + bytes) of the rows [j, end) of w, in `turns` turns.
    Ahead(const Matrix& w, int64_t j, int64_t end, int64_t from, int64_t bytes, int64_t turns)
        : row_(w.data + j * w.row_bytes + from), stop_(w.data + end * w.row_bytes), stride_(w.row_bytes), bytes_(bytes + 63),
          lines_(((end - j) * (bytes_ / 64) + turns - 1) / turns) {}

    LLAMERO_INLINE void fetch_some() {
        for (int64_t i = 0; i < lines_ && row_ < stop_; ++i) {
            prefetch(row_, uintptr_t(at_));
            at_ += 64;
            if (at_ >= bytes_) {
                at_ = 0;
                row_ += stride_;
            }
        }
    }

private:
    const uint8_t *row_, *stop_;
    int64_t stride_, bytes_, lines_, at_ = 0;
};

// Calls run(row, rows) for all n rows of activations, as many as Rows at a time; `rows` is a constant to the callee.
template <int Rows, class Run>
LLAMERO_INLINE void in_tiles(int64_t row, int64_t n, const Run& run) {
    for (; row + Rows <= n; row += Rows) run(row, std::integral_constant<int, Rows>());
    if constexpr (Rows > 1) in_tiles<(Rows + 1) / 2>(row, n, run);
}

// What a tile does with its sums. A panel meets k one stretch at a time; until the last, the sums of its outputs wait
// in `waiting`, packed, because y's rows lie too far apart to stay in the cache.
struct Outputs {
    float* waiting;   // (rows, width)
    float* y;         // the panel's first output of row 0
    int64_t ldy;
    int64_t valid;    // of the panel's width, how many outputs exist
    bool first, last; // of the stretches

    // The sums so far of one row of a tile of `rows` rows.
    template <int Columns>
    LLAMERO_INLINE void start(Floats (&sums)[Columns], int64_t row, int rows) const {
        const float* held = waiting + row * (Columns * lanes);
        if (last)  // the next tile's rows of y: each lies in a page of its own
            for (int j = 0; j < Columns * lanes; j += 16) prefetch(y + j, uintptr_t((row + rows) * ldy) * sizeof(float));
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = first ? zero_floats() : load_floats(held + c * lanes);
    }

    template <int Columns>
    LLAMERO_INLINE void put(const Floats (&sums)[Columns], int64_t row) const {
        float* held = waiting + row * (Columns * lanes);
        float* out = last && valid == Columns * lanes ? y + row * ldy : held;
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) store_floats(out + c * lanes, sums[c]);
        if (last && out == held)
            for (int64_t j = 0; j < valid; ++j) y[row * ldy + j] = held[j];
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
