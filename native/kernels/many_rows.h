// A block of many query rows in scratch memory, turned so that a lane is a query row.
#pragma once
#include "kept.h"
#include "softmax.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t T = 64;            // context rows in a tile, an even number
constexpr int64_t GROUP = 64;        // query rows that are multiplied together: they and a tile fit the first cache

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
    // For integers: what one stands for, in each query row, key, value and row of weights.
    float *query_unit, *key_unit, *value_unit, *weight_unit;

    static int64_t floats(int64_t rows, int64_t dim) {
        const int64_t padded = round_up(rows, W), width = round_up(dim, W), lanes = padded < GROUP ? padded : GROUP;
        return 2 * round_up(rows, GROUP) * width + 2 * T * width + T * lanes + 6 * round_up(rows, GROUP) + 2 * T;
    }
};

template <CacheKind K>
inline vf kept_any(const uint8_t* row, int64_t d, int64_t dim) {
    return d + W <= dim ? kept<K>(row, d) : kept_part<K>(row, d, dim - d);
}

// f(t, row) for every row of the tile.
template <class F>
inline void in_rows(const Rows& rows, int64_t begin, int64_t end, const F& f) {
    for (int64_t t = begin; t < end;) {
        const Run run = run_at(rows, t, end);
        for (int64_t i = 0; i < run.count; ++i) f(t - begin + i, run.row + i * rows.row_bytes);
        t += run.count;
    }
}

// Query rows as columns, W of them at a time.
void turn_queries(const Attend& task, ManyRows& w) {
    const float scale = 1.0f / sqrtf(static_cast<float>(w.dim));
    for (int64_t r = 0; r < w.padded; r += W) {
        const int64_t count = w.rows - r < W ? w.rows - r : W;
        const float* rows[W];
        for (int64_t i = 0; i < count; ++i) {
            rows[i] = row_of(task, task.q, r + i);
            if (r + W + i < w.rows)  // fetch the next W rows: each token's lie in a page of their own
                fetch(row_of(task, task.q, r + W + i), 4 * w.dim);
        }
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
    w.query_unit = w.shrink + 2 * room;
    w.weight_unit = w.query_unit + room;
    w.key_unit = w.weight_unit + room;
    w.value_unit = w.key_unit + T;
    memset(w.sums, 0, static_cast<size_t>(4 * room * w.width));
    for (int64_t r = 0; r < w.padded; ++r) {
        w.maximum[r] = LEAST;
        w.weight[r] = 0.0f;
        w.seen[r] = static_cast<int32_t>(task.first + (r < w.rows ? r : w.rows - 1) / task.heads + 1);
    }
    turn_queries(task, w);
    return w;
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
