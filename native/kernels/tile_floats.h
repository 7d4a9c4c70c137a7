// A tile of a block of many query rows, computed with floats.
#pragma once
#include "cells.h"
#include "many_rows.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Floats {
    static void prepare_queries(ManyRows&) {}

    // Scores of `count` rows of the tile with `lanes` query rows.
    static void score_group(const ManyRows& w, const float* queries, int64_t lanes, int64_t count) {
        in_steps<CELL_COLS>(lanes / W, [&](int64_t v, auto cols) {
            in_steps<CELL_ROWS>(count, [&](int64_t t, auto rows) {
                float* to = w.scores + t * w.lanes + v * W;
                cell<vf, rows, cols>(w.keys + t * w.width, w.width, 1, queries + v * W, w.lanes, w.dim,
                                 [&](int r, int j, vf sum) { store(to + r * w.lanes + j * W, sum); });
            });
        });
    }

    // The running softmax of the W query rows from r on: turns their scores into weights.
    static void soften_lanes(ManyRows& w, int64_t r, int64_t begin, int64_t count) {
        float* scores = w.scores + r % GROUP;
        const vi seen = load_as<vi>(w.seen + r);
        const vf before = load(w.maximum + r);
        vf most = before, total = vf{};
        if (w.seen[r] >= begin + count) {
            for (int64_t t = 0; t < count; ++t) most = max(most, load(scores + t * w.lanes));
        } else {
            for (int64_t t = 0; t < count; ++t) {
                const vi position = static_cast<int32_t>(begin + t) - vi{};
                const vf score = select(position < seen, load(scores + t * w.lanes), broadcast(-INFINITY));
                store(scores + t * w.lanes, score);
                most = max(most, score);
            }
        }
        for (int64_t t = 0; t < count; ++t) {
            const vf p = exp(load(scores + t * w.lanes) - most);
            store(scores + t * w.lanes, p);
            total += p;
        }
        const vf shrink = exp(before - most);
        store(w.maximum + r, most);
        store(w.shrink + r, shrink);
        store(w.weight + r, load(w.weight + r) * shrink + total);
    }

    // Adds the tile's values by their weights to what the query rows from `first` on have summed.
    static void mix_group(const ManyRows& w, int64_t first, int64_t rows, int64_t count) {
        in_steps<CELL_COLS>(w.width / W, [&](int64_t v, auto cols) {
            in_steps<CELL_ROWS>(rows, [&](int64_t r, auto some) {
                float* to = w.sums + (first + r) * w.width + v * W;
                const float* shrink = w.shrink + first + r;
                cell<vf, some, cols>(w.scores + r, 1, w.lanes, w.values + v * W, w.width, count,
                                     [&](int i, int j, vf sum) {
                                         float* at = to + i * w.width + j * W;
                                         store(at, load(at) * shrink[i] + sum);
                                     });
            });
        });
    }

    template <CacheKind K>
    static void unpack(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w, float* to) {
        in_rows(rows, begin, end, [&](int64_t t, const uint8_t* row) {
            for (int64_t d = 0; d < w.dim; d += W) store(to + t * w.width + d, kept_any<K>(row, d, w.dim));
        });
    }

    template <CacheKind K>
    static void unpack_keys(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w) {
        unpack<K>(rows, begin, end, w, w.keys);
    }

    template <CacheKind K>
    static void unpack_values(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w) {
        unpack<K>(rows, begin, end, w, w.values);
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
