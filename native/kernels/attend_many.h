// Attention of many query rows: bound by arithmetic. Each tile of kept rows is unpacked once for all query rows of the
// block. Scores have one query row per lane, so that the softmax needs no sums over lanes; no row's result depends on
// the rows beside it.
#pragma once
#include <type_traits>

#include "kept.h"
#include "softmax.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t T = 64;            // context rows in a tile
constexpr int64_t GROUP = 64;        // query rows that are multiplied together: they and a tile fit the first cache
constexpr int CELL_ROWS = 6;         // rows of a product in registers
constexpr int CELL_COLS = REGISTERS == 32 ? 4 : 2;  // vectors

constexpr int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// A block in scratch memory. Query rows are padded to whole vectors, with zeros.
struct ManyRows {
    int64_t rows, padded, lanes;  // query rows; padded; lanes of a group
    int64_t dim, width;           // head_dim; padded
    float* queries;               // for each group: head_dim rows of `lanes` values
    float *keys, *values;         // a tile: T rows of `width` values
    float* scores;                // of a group and a tile: T rows of `lanes` values
    float *sums, *maximum, *weight, *shrink;
    int32_t* seen;  // how many context rows each query row sees

    static int64_t floats(int64_t rows, int64_t dim) {
        const int64_t padded = round_up(rows, W), width = round_up(dim, W), lanes = padded < GROUP ? padded : GROUP;
        return 2 * round_up(rows, GROUP) * width + 2 * T * width + T * lanes + 4 * round_up(rows, GROUP);
    }
};

// Query rows as columns, W of them at a time.
void turn_queries(const Attend& task, ManyRows& w) {
    const float scale = 1.0f / sqrtf(static_cast<float>(w.dim));
    for (int64_t r = 0; r < w.padded; r += W) {
        const int64_t count = w.rows - r < W ? w.rows - r : W;
        const float* rows[W];
        for (int64_t i = 0; i < count; ++i)
            rows[i] = task.q + (r + i) / task.heads * task.q_stride + (r + i) % task.heads * w.dim;
        float* to = w.queries + r / GROUP * GROUP * w.width + r % GROUP;
        for (int64_t d = 0; d < w.dim; d += W) {
            vf square[W] = {};
            for (int64_t i = 0; i < count; ++i)
                square[i] = (d + W <= w.dim ? load(rows[i] + d) : load_part(rows[i] + d, w.dim - d)) * scale;
            transpose(square);
            for (int64_t i = 0; i < W; ++i, to += w.lanes) store(to, square[i]);
        }
    }
}

ManyRows prepare_many(const Attend& task, float* scratch) {
    ManyRows w;
    w.rows = task.tokens * task.heads;
    w.padded = round_up(w.rows, W);
    w.lanes = w.padded < GROUP ? w.padded : GROUP;
    w.dim = task.head_dim;
    w.width = round_up(w.dim, W);
    const int64_t room = round_up(w.rows, GROUP);
    w.queries = scratch;
    w.sums = w.queries + room * w.width;
    w.keys = w.sums + room * w.width;
    w.values = w.keys + T * w.width;
    w.scores = w.values + T * w.width;
    w.maximum = w.scores + T * w.lanes;
    w.weight = w.maximum + room;
    w.shrink = w.weight + room;
    w.seen = reinterpret_cast<int32_t*>(w.shrink + room);
    memset(w.sums, 0, static_cast<size_t>(4 * room * w.width));
    for (int64_t r = 0; r < w.padded; ++r) {
        w.maximum[r] = LEAST;
        w.weight[r] = 0.0f;
        w.seen[r] = static_cast<int32_t>(task.first + (r < w.rows ? r : w.rows - 1) / task.heads + 1);
    }
    turn_queries(task, w);
    return w;
}

// f(at, rows) for [0, count) in steps of R rows and a last smaller one, `rows` being a constant.
template <int R, class F>
inline __attribute__((always_inline)) void in_steps(int64_t count, const F& f) {
    int64_t at = 0;
    for (; at + R <= count; at += R) f(at, std::integral_constant<int, R>());
    if constexpr (R > 1)
        if (at < count) in_steps<R - 1>(count - at, [&](int64_t more, auto rows) { f(at + more, rows); });
}

// done(r, j, sum) for R rows of a and C vectors of b's columns; sum over k of a[r * row + k * step] * b[k][j].
template <int R, int C, class F>
inline __attribute__((always_inline)) void cell(const float* a, int64_t row, int64_t step, const float* b,
                                                int64_t stride, int64_t depth, const F& done) {
    vf acc[R][C] = {};
    for (int64_t k = 0; k < depth; ++k) {
        vf column[C];
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) column[j] = load(b + k * stride + j * W);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const vf x = broadcast(a[r * row + k * step]);
#pragma GCC unroll 4
            for (int j = 0; j < C; ++j) acc[r][j] += x * column[j];
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) done(r, j, acc[r][j]);
}

// Scores of `count` rows of the tile with `lanes` query rows.
void score_group(const ManyRows& w, const float* queries, int64_t lanes, int64_t count) {
    in_steps<CELL_COLS>(lanes / W, [&](int64_t v, auto cols) {
        in_steps<CELL_ROWS>(count, [&](int64_t t, auto rows) {
            float* to = w.scores + t * w.lanes + v * W;
            cell<rows, cols>(w.keys + t * w.width, w.width, 1, queries + v * W, w.lanes, w.dim,
                             [&](int r, int j, vf sum) { store(to + r * w.lanes + j * W, sum); });
        });
    });
}

// The running softmax of the W query rows from r on: turns their scores into weights.
void soften_lanes(ManyRows& w, int64_t r, int64_t begin, int64_t count) {
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
void mix_group(const ManyRows& w, int64_t first, int64_t rows, int64_t count) {
    in_steps<CELL_COLS>(w.width / W, [&](int64_t v, auto cols) {
        in_steps<CELL_ROWS>(rows, [&](int64_t r, auto some) {
            float* to = w.sums + (first + r) * w.width + v * W;
            const float* shrink = w.shrink + first + r;
            cell<some, cols>(w.scores + r, 1, w.lanes, w.values + v * W, w.width, count, [&](int i, int j, vf sum) {
                float* at = to + i * w.width + j * W;
                store(at, load(at) * shrink[i] + sum);
            });
        });
    });
}

template <CacheKind K>
void unpack(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w, float* to) {
    for (int64_t t = begin; t < end;) {
        const Run run = run_at(rows, t, end);
        for (int64_t i = 0; i < run.count; ++i, to += w.width) {
            const uint8_t* row = run.row + i * rows.row_bytes;
            int64_t d = 0;
            for (; d + W <= w.dim; d += W) store(to + d, kept<K>(row, d));
            if (d < w.dim) store(to + d, kept_part<K>(row, d, w.dim - d));
        }
        t += run.count;
    }
}

template <CacheKind K>
Softened attend_many(const Attend& task, int64_t end, float* scratch) {
    ManyRows w = prepare_many(task, scratch);
    for (int64_t begin = task.begin; begin < end; begin += T) {
        const int64_t stop = end - begin < T ? end : begin + T;
        unpack<K>(task.keys, begin, stop, w, w.keys);
        unpack<K>(task.values, begin, stop, w, w.values);
        for (int64_t first = 0; first < w.rows; first += GROUP) {
            const int64_t rows = w.rows - first < GROUP ? w.rows - first : GROUP, lanes = round_up(rows, W);
            const int64_t seen = w.seen[first + rows - 1], count = (seen < stop ? seen : stop) - begin;
            if (count <= 0) continue;
            score_group(w, w.queries + first * w.width, lanes, count);
            for (int64_t r = 0; r < lanes; r += W) soften_lanes(w, first + r, begin, count);
            mix_group(w, first, rows, count);
        }
    }
    return {w.rows, w.width, w.sums, w.maximum, w.weight};
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
