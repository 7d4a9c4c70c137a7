// How the tile paths walk: a panel of weight rows is unpacked one stretch of k at a time and meets all rows of
// activations, a few to a tile. Activations lie stretch by stretch, so that the rows of neighbouring tiles are neighbours.
#pragma once
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int panel_width = tile_columns * lanes;  // weight rows in a panel

// Prepared activations: the first block of all n rows, the second of all, and so on. A Block holds Block::values values
// and is made by its prepare(x, count) from `count` of them or fewer, with zeros behind.
template <class Block>
struct Stretches {
    static int64_t count(int64_t k) { return (k + Block::values - 1) / Block::values; }
    static size_t bytes(int64_t n, int64_t k) { return size_t(n * count(k)) * sizeof(Block); }
    static const Block* at(const void* prepared, int64_t stretch, int64_t n) {
        return static_cast<const Block*>(prepared) + stretch * n;
    }
    static void prepare(const float* x, int64_t n, int64_t k, void* out, int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            for (int64_t s = 0; s < count(k); ++s) {
                const int64_t at = s * Block::values, left = k - at;
                Block& block = static_cast<Block*>(out)[s * n + row];
                block.prepare(x + row * k + at, left < Block::values ? left : Block::values);
            }
    }
};

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

// Where the sums of a panel wait between its stretches, packed together: y's rows lie too far apart to stay in the cache.
template <int Rows, int Columns>
LLAMERO_INLINE void load_sums(const float* held, Floats (&sums)[Rows][Columns]) {
    LLAMERO_UNROLL
    for (int r = 0; r < Rows; ++r) {
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) sums[r][c] = load_floats(held + (r * Columns + c) * lanes);
    }
}

template <int Rows, int Columns>
LLAMERO_INLINE void store_sums(const Floats (&sums)[Rows][Columns], float* held) {
    LLAMERO_UNROLL
    for (int r = 0; r < Rows; ++r) {
        LLAMERO_UNROLL
        for (int c = 0; c < Columns; ++c) store_floats(held + (r * Columns + c) * lanes, sums[r][c]);
    }
}

// The finished sums of a tile, as many columns as there are; fetches the next tile's rows of y, each in a page of its own.
template <int Rows>
LLAMERO_INLINE void put_rows(const float* held, float* y, int64_t ldy, int64_t columns) {
    for (int r = 0; r < Rows; ++r, held += panel_width, y += ldy) {
        for (int c = 0; c < panel_width; c += 16) prefetch(y + c, uintptr_t(Rows * ldy) * sizeof(float));
        if (columns < panel_width) std::memcpy(y, held, size_t(columns) * sizeof(float));
        else std::memcpy(y, held, panel_width * sizeof(float));
    }
}

// Fetches the first `needed` bytes of the blocks of the next Rows rows of activations. It helps where these are integers;
// tiles of floats last longer, and are held up by it.
template <int Rows, class Block>
LLAMERO_INLINE void fetch_rows(const Block* x, uintptr_t needed) {
    for (int r = 0; r < Rows; ++r)
        for (uintptr_t line = 0; line < needed; line += 64) prefetch(x + r, Rows * sizeof(Block) + line);
}

// Begins a tile: its rows of activations, and sums of nothing.
template <int Rows, class Block>
LLAMERO_INLINE void begin_tile(const Block* first, const Block* (&x)[Rows], Floats (&sums)[Rows][tile_columns]) {
    LLAMERO_UNROLL
    for (int r = 0; r < Rows; ++r) {
        x[r] = first + r;
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c) sums[r][c] = zero_floats();
    }
}

template <class Panel>
size_t panel_scratch(int64_t n) {
    return sizeof(Panel) + size_t(n) * panel_width * sizeof(float);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end), through a Panel in scratch memory. Its
// unpack(w, j, end, at) takes Panel::values values from `at` on, stored in Panel::bytes bytes, of rows [j, end);
// Panel::tile(x, held, ahead) adds the products of Panel::Tile's rows, and takes `turns` turns at fetching ahead.
template <class Panel, class Block, int TileRows>
LLAMERO_INLINE void panel_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy,
                                  int64_t begin, int64_t end, void* scratch) {
    Panel& panel = *static_cast<Panel*>(scratch);
    float* sums = reinterpret_cast<float*>(&panel + 1);
    const int64_t tiles = (n + TileRows - 1) / TileRows;
    for (int64_t j = begin; j < end; j += panel_width) {
        std::memset(sums, 0, size_t(n) * panel_width * sizeof(float));
        for (int64_t s = 0; s * Block::values < w.k; ++s) {
            const bool last = (s + 1) * Block::values >= w.k;
            panel.unpack(w, j, end, s * Block::values);
            Ahead ahead(w, last ? j + panel_width : j, end, panel_width, last ? 0 : (s + 1) * Panel::bytes,
                        Panel::bytes, tiles * Panel::turns);
            const Block* x = Stretches<Block>::at(prepared, s, n);
            in_tiles<TileRows>(0, n, [&](int64_t i, auto rows) {
                float* held = sums + i * panel_width;
                panel.template tile<rows>(x + i, held, ahead);
                if (last) put_rows<rows>(held, y + i * ldy + j, ldy, end - j);
            });
        }
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
