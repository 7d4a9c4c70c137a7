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

// Fetches the weights of the next panel, a few lines at a time between the products of this one: a burst of fetches
// would fill the processor's buffers and hold everything up.
class Ahead {
public:
    // Bytes [from, from + bytes) of rows [j, j + count) of w, as far as they are before `end`, in so many turns.
    Ahead(const Matrix& w, int64_t j, int64_t end, int64_t count, int64_t from, int64_t bytes, int64_t turns)
        : row_(w.data + j * w.row_bytes + from), stride_(w.row_bytes), bytes_(bytes + 63),
          rows_(end - j < count ? end - j : count), lines_((rows_ * (bytes_ / 64) + turns - 1) / turns) {}

    LLAMERO_INLINE void fetch_some() {
        for (int64_t i = 0; i < lines_ && rows_ > 0; ++i) {
            prefetch(row_, uintptr_t(at_));
            at_ += 64;
            if (at_ >= bytes_) {
                at_ = 0;
                row_ += stride_;
                --rows_;
            }
        }
    }

private:
    const uint8_t* row_;
    int64_t stride_, bytes_, rows_, lines_, at_ = 0;
};

// Calls run(row, rows) for all n rows of activations, as many as Rows at a time; `rows` is a constant to the callee.
template <int Rows, class Run>
LLAMERO_INLINE void in_tiles(int64_t row, int64_t n, const Run& run) {
    for (; row + Rows <= n; row += Rows) run(row, std::integral_constant<int, Rows>());
    if constexpr (Rows > 1) in_tiles<(Rows + 1) / 2>(row, n, run);
}

// Where the sums of a panel go. It meets k one stretch at a time; until the last, the sums wait packed together,
// because y's rows lie too far apart to stay in the cache.
class Outputs {
public:
    Outputs(float* waiting, int64_t ldy) : waiting_(waiting), ldy_(ldy) {}

    // The next stretch: y points at the panel's first output of row 0, `valid` outputs or more of its width exist.
    void turn_to(float* y, int64_t valid, bool first, bool last) {
        y_ = y;
        valid_ = valid;
        first_ = first;
        last_ = last;
    }

    // The sums so far of one row of a tile of `rows` rows.
    template <int Columns>
    LLAMERO_INLINE void start(Floats (&sums)[Columns], int64_t row, int rows) const {
        const float* held = waiting_ + row * (Columns * lanes);
        if (last_)  // fetch the next tile's rows of y: each lies in a page of its own
            for (int j = 0; j < Columns * lanes; j += 16)
                prefetch(y_ + j, uintptr_t((row + rows) * ldy_) * sizeof(float));
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = first_ ? zero_floats() : load_floats(held + c * lanes);
    }

    template <int Columns>
    LLAMERO_INLINE void put(const Floats (&sums)[Columns], int64_t row) const {
        float *held = waiting_ + row * (Columns * lanes), *out = y_ + row * ldy_;
        const bool whole = last_ && valid_ >= Columns * lanes;
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) store_floats((whole ? out : held) + c * lanes, sums[c]);
        if (last_ && !whole) std::memcpy(out, held, size_t(valid_) * sizeof(float));
    }

    // Sums that are still to be scaled join those so far.
    template <int Columns>
    LLAMERO_INLINE void add(Floats (&sums)[Columns], const float* scale, int64_t row, int rows) const {
        Floats before[Columns];
        start(before, row, rows);
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[c] = multiply_add(sums[c], broadcast(scale), before[c]);
        put(sums, row);
    }

private:
    float *waiting_, *y_ = nullptr;
    int64_t ldy_, valid_ = 0;
    bool first_ = false, last_ = false;
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
