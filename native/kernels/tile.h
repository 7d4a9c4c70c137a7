// The tile path: many rows of activations. A panel of weight rows is unpacked once, a stretch of k at a time that fits
// the first-level cache, and meets all rows of activations from there. Bound by arithmetic.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// The size of a tile: `columns` vectors of weight rows times `rows` of activations. Integer and float sums of all of
// them stay in registers; groups of 16 hold a third set, so their tiles are smaller.
template <class C>
struct TileShape {
#if defined(__AVX512F__)
    static constexpr int columns = C::group == 32 ? 4 : 2, rows = C::group == 32 ? 3 : 4;
#elif defined(__AVX2__)
    static constexpr int columns = C::group == 32 ? 2 : 1, rows = 3;
#else
    static constexpr int columns = 2, rows = C::group == 32 ? 4 : 2;
#endif
    static constexpr int width = columns * lanes;  // weight rows in a panel
};

constexpr int64_t stretch = 256;  // values of k in a panel

// A stretch of `width` weight rows, unpacked.
template <class C>
struct Panel {
    static constexpr int width = TileShape<C>::width;
    static constexpr int groups = stretch / C::group;
    alignas(64) uint8_t q[stretch / 4][width][4];
    alignas(64) float scale[groups][width];
    alignas(64) float min[C::mins ? groups : 4][width];
    // Rows on their way in, before they are laid side by side.
    alignas(64) uint8_t row_q[lanes][stretch];
    alignas(64) float row_scale[lanes][groups];
    alignas(64) float row_min[lanes][groups];

    // Values [at, at + count) of weight rows [j, end); rows from `end` on become zeros.
    void unpack(const Matrix& w, int64_t j, int64_t end, int64_t at, int64_t count) {
        for (int c = 0; c < width; c += lanes) {
            for (int l = 0; l < lanes; ++l) {
                if (j + c + l < end) {
                    unpack_row(w.data + (j + c + l) * w.row_bytes + at / C::values * sizeof(typename C::Block), l, count);
                } else {
                    std::memset(row_q[l], 0, sizeof row_q[l]);
                    std::memset(row_scale[l], 0, sizeof row_scale[l]);
                    std::memset(row_min[l], 0, sizeof row_min[l]);
                }
            }
            interleave(row_q, sizeof row_q[0], count / 4, q[0][c], sizeof q[0]);
            interleave(row_scale, sizeof row_scale[0], count / C::group, &scale[0][c], sizeof scale[0]);
            if (C::mins) interleave(row_min, sizeof row_min[0], count / C::group, &min[0][c], sizeof min[0]);
        }
    }

    LLAMERO_INLINE void unpack_row(const uint8_t* p, int lane, int64_t count) {
        for (int64_t at = 0; at < count; at += C::values, p += sizeof(typename C::Block)) {
            const typename C::Block& block = *reinterpret_cast<const typename C::Block*>(p);
            C::scales(block, row_scale[lane] + at / C::group, row_min[lane] + at / C::group);
            LLAMERO_UNROLL
            for (int part = 0; part < C::values / 32; ++part)
                store(row_q[lane] + at + 32 * part, level_quants<C>(block, part));
        }
    }
};

// What the offsets or minima of a panel need of a row of activations, group by group.
template <class C>
struct Corrections {
    int32_t start[stretch / C::group];  // minus the offset times the sum of the activations
    float sum[stretch / C::group];      // groups of 16 with minima: the sum of the activations

    LLAMERO_INLINE void fill(const Int8Row& x, int64_t at, int64_t count) {
        constexpr int parts = C::group / 16;
        for (int64_t g = 0; g < count / C::group; ++g) {
            int32_t s = x.sum[at / 16 + parts * g];
            if (parts == 2) s += x.sum[at / 16 + parts * g + 1];
            start[g] = -remaining_offset<C> * s;
            if (C::mins && C::group == 16) sum[g] = float(s);
        }
    }
};

// One tile over one stretch: y (or y plus) the products of Rows rows of activations with a panel.
template <class C, int Rows>
struct Tile {
    static constexpr int columns = TileShape<C>::columns, width = TileShape<C>::width;
    const Panel<C>& panel;
    Int8Row x[Rows];
    Corrections<C> corrections[Rows];
    Floats sums[Rows][columns];

    explicit Tile(const Panel<C>& p) : panel(p) {}

    // Products of a group of C::group values, in integers.
    LLAMERO_INLINE void dots(int g, int64_t at, Dots<C::peak> (&d)[Rows][columns]) const {
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < columns; ++c) d[r][c].start(&corrections[r].start[g]);
        }
        LLAMERO_UNROLL
        for (int four = 0; four < C::group / 4; ++four) {
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                LLAMERO_UNROLL
                for (int c = 0; c < columns; ++c)
                    d[r][c].add(panel.q[g * (C::group / 4) + four][c * lanes], x[r].q + at + g * C::group + 4 * four);
            }
        }
    }

    // Groups of 32: the scale of the weights, then that of the activations.
    LLAMERO_INLINE void add_32(int g, int64_t at) {
        Dots<C::peak> d[Rows][columns];
        dots(g, at, d);
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < columns; ++c) {
                const Floats scaled = d[r][c].total() * load_floats(&panel.scale[g][c * lanes]);
                sums[r][c] = multiply_add(scaled, broadcast(x[r].scale + at / 32 + g), sums[r][c]);
                if (C::mins) {
                    const Floats low = load_floats(&panel.min[g][c * lanes]);
                    sums[r][c] = subtract_product(sums[r][c], low, broadcast(x[r].total + at / 32 + g));
                }
            }
        }
    }

    // Two groups of 16: the scales of the weights, then the one scale of their activations.
    LLAMERO_INLINE void add_16(int g, int64_t at) {
        Floats both[Rows][columns];
        LLAMERO_UNROLL
        for (int half = 0; half < 2; ++half) {
            Dots<C::peak> d[Rows][columns];
            dots(g + half, at, d);
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                LLAMERO_UNROLL
                for (int c = 0; c < columns; ++c) {
                    const Floats scale = load_floats(&panel.scale[g + half][c * lanes]), products = d[r][c].total();
                    both[r][c] = half ? multiply_add(products, scale, both[r][c]) : products * scale;
                    if (C::mins) {
                        const Floats low = load_floats(&panel.min[g + half][c * lanes]);
                        both[r][c] = subtract_product(both[r][c], low, broadcast(&corrections[r].sum[g + half]));
                    }
                }
            }
        }
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < columns; ++c)
                sums[r][c] = multiply_add(both[r][c], broadcast(x[r].scale + at / 32 + g / 2), sums[r][c]);
        }
    }

    // y points at the panel's first output of the tile's first row; `valid` of its width outputs exist.
    LLAMERO_INLINE void run(const void* prepared, int64_t first, int64_t k, int64_t at, int64_t count, float* y,
                            int64_t ldy, int64_t valid) {
        for (int r = 0; r < Rows; ++r) {
            x[r] = Int8Row::at(prepared, first + r, k);
            corrections[r].fill(x[r], at, count);
            for (int c = 0; c < columns; ++c) sums[r][c] = zero_floats();
        }
        for (int g = 0; g < count / C::group; g += 32 / C::group) {
            if constexpr (C::group == 32) add_32(g, at);
            else add_16(g, at);
        }
        for (int r = 0; r < Rows; ++r) store_tile_row(sums[r], y + r * ldy, valid, at > 0);
    }
};

template <class C, int Rows>
void tile_rows(const Panel<C>& panel, const void* prepared, int64_t first, int64_t k, int64_t at, int64_t count, float* y,
               int64_t ldy, int64_t valid) {
    Tile<C, Rows> tile(panel);
    tile.run(prepared, first, k, at, count, y, ldy, valid);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class C>
void tile_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                  void* scratch) {
    constexpr int rows = TileShape<C>::rows, width = TileShape<C>::width;
    Panel<C>& panel = *static_cast<Panel<C>*>(scratch);
    for (int64_t j = begin; j < end; j += width) {
        const int64_t valid = end - j < width ? end - j : width;
        for (int64_t at = 0; at < w.k; at += stretch) {
            const int64_t count = w.k - at < stretch ? w.k - at : stretch;
            panel.unpack(w, j, end, at, count);
            int64_t i = 0;
            for (; i + rows <= n; i += rows) tile_rows<C, rows>(panel, prepared, i, w.k, at, count, y + i * ldy + j, ldy, valid);
            for (; i < n; ++i) tile_rows<C, 1>(panel, prepared, i, w.k, at, count, y + i * ldy + j, ldy, valid);
        }
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
