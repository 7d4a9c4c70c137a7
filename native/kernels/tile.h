// The tile path: many rows of activations. A panel of weight rows is unpacked once, 256 values of k at a time so that
// it fits the first-level cache, and meets all rows of activations from there. Bound by arithmetic.
#pragma once
#include <cstddef>

#include "codec.h"
#include "int8.h"
#include "panels.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// 256 values of `width` weight rows, unpacked.
template <class C>
struct Panel {
    static constexpr int width = panel_width, groups = 256 / C::group;
    static constexpr int64_t bytes = stretch_bytes<C>, turns = groups;
    alignas(64) uint8_t q[64][width][4];
    alignas(64) float scale[groups][width];
    alignas(64) float shift[groups][width];  // -bias times the scale
    alignas(64) float min[C::mins ? groups : 1][width];
    // Rows on their way in, before they are laid side by side.
    alignas(64) uint8_t row_q[lanes][256];
    alignas(64) float row_scale[lanes][groups];
    alignas(64) float row_min[lanes][groups];

    // Values [at, at + 256), or as many as there are, of weight rows [j, end); rows from `end` on become zeros.
    void unpack(const Matrix& w, int64_t j, int64_t end, int64_t at) {
        for (int c = 0; c < width; c += lanes) {
            for (int l = 0; l < lanes; ++l) {
                const uint8_t* p = w.data + (j + c + l) * w.row_bytes + at / 256 * stretch_bytes<C>;
                if (j + c + l < end)
                    with_stretch<C>(p, w.k - at, [&](const typename C::Block* blocks) { unpack_row(blocks, l); });
                else clear_row(l);
            }
            interleave(row_q, sizeof row_q[0], 64, q[0][c], sizeof q[0]);
            interleave(row_scale, sizeof row_scale[0], groups, &scale[0][c], sizeof scale[0]);
            if (C::mins) interleave(row_min, sizeof row_min[0], groups, &min[0][c], sizeof min[0]);
        }
        for (int g = 0; g < groups; ++g)
            for (int i = 0; i < width; ++i) shift[g][i] = scale[g][i] * -bias;
    }

    LLAMERO_INLINE void unpack_row(const typename C::Block* blocks, int lane) {
        stored_scales<C>(blocks, row_scale[lane], row_min[lane]);
        LLAMERO_UNROLL
        for (int quarter = 0; quarter < 4; ++quarter)
            store_quants(row_q[lane] + 64 * quarter, offset_quants<C>(blocks, quarter, panel_offset<C>));
    }

    template <int Rows>
    LLAMERO_INLINE void tile(const Int8Block* first, float* held, Ahead& ahead) const;

    void clear_row(int lane) {
        std::memset(row_q[lane], 0, sizeof row_q[lane]);
        std::memset(row_scale[lane], 0, sizeof row_scale[lane]);
        std::memset(row_min[lane], 0, sizeof row_min[lane]);
    }
};

// One tile: the products of Rows rows of 256 activations with a panel.
template <class C, int Rows>
struct Tile {
    static constexpr int groups = 256 / C::group;
    // Bytes of a block of activations: what is rarely needed lies last.
    static constexpr uintptr_t needed =
        C::group == 16 ? sizeof(Int8Block) : C::mins ? offsetof(Int8Block, starts16) : offsetof(Int8Block, total);
    using Sums = Floats[Rows][tile_columns];
    using Integers = TileDots<Dots<C::peak, panel_offset<C>, tile_columns>, Rows>;

    // Where the integer sums of every group start. Blocks of activations hold it for an offset of 128.
    struct Starts {
        alignas(32) int32_t held[Rows][groups];

        LLAMERO_INLINE explicit Starts(const Int8Block* const (&x)[Rows]) {
            if (panel_offset<C> == 0 || panel_offset<C> == 128) return;
            for (int r = 0; r < Rows; ++r)
                for (int g = 0; g < groups; ++g)
                    held[r][g] = (in_block(*x[r])[g] - biased_zero) / 128 * panel_offset<C> + biased_zero;
        }
        static LLAMERO_INLINE const int32_t* in_block(const Int8Block& x) {
            return C::group == 32 ? x.start : x.starts16;
        }
        LLAMERO_INLINE const int32_t* at(const Int8Block& x, int r, int g) const {
            return panel_offset<C> == 128 ? in_block(x) + g : &held[r][g];
        }
    };

    // A group of neighbours that share a scale: integer products, then the scales of the weights and the activations.
    static LLAMERO_INLINE void add_group(const Panel<C>& panel, const Int8Block* const (&x)[Rows], const Starts& starts,
                                         int g, Sums& sums) {
        Integers d;
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) d.start(r, starts.at(*x[r], r, g));
        LLAMERO_UNROLL
        for (int step = 0; step < C::group / Integers::bytes; ++step) {
            const int at = g * C::group + step * Integers::bytes;
            d.add(panel.q[at / 4][0], [&](int r) { return x[r]->q + at; });
        }
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c) {
            const float *scale = &panel.scale[g][c * lanes], *shift = &panel.shift[g][c * lanes];
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r)
                sums[r][c] = multiply_add(d.scaled(r, c, scale, shift),
                                          broadcast(&x[r]->scale[g * C::group / 32]), sums[r][c]);
        }
        if (C::mins) {
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) take_minima(panel, *x[r], g, sums[r]);
        }
    }

    static LLAMERO_INLINE void take_minima(const Panel<C>& panel, const Int8Block& x, int g,
                                           Floats (&sums)[tile_columns]) {
        const float start = bits_to_float(uint32_t(x.starts16[g])) - bias;
        const float total16 = start * x.scale[g / 2] / -128.0f;
        const Floats total = broadcast(C::group == 32 ? &x.total[g] : &total16);
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c)
            sums[c] = subtract_product(sums[c], load_floats(&panel.min[g][c * lanes]), total);
    }

    // x: the block of the first row; those of the others follow. held: the sums so far, of all columns of the first row.
    static LLAMERO_ALONE void run(const Panel<C>& panel, const Int8Block* first, float* held, Ahead& ahead) {
        const Int8Block* x[Rows];
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) x[r] = first + r;
        fetch_rows<Rows>(first, needed);
        Sums sums;
        load_sums(held, sums);
        const Starts starts(x);
        for (int g = 0; g < groups; ++g) {
            ahead.fetch_some();
            add_group(panel, x, starts, g, sums);
        }
        store_sums(sums, held);
    }
};

template <class C>
template <int Rows>
LLAMERO_INLINE void Panel<C>::tile(const Int8Block* first, float* held, Ahead& ahead) const {
    Tile<C, Rows>::run(*this, first, held, ahead);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class C>
void tile_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                  void* scratch) {
    panel_product<Panel<C>, Int8Block, tile_rows>(w, prepared, n, y, ldy, begin, end, scratch);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
