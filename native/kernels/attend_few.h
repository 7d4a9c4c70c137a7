// Attention of few query rows: bound by memory. Every kept row is read once, from where it lies, for all of them, while
// the next run of rows is fetched.
#pragma once
#include <algorithm>

#include "kept.h"
#include "softmax.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t FEW = 8;     // query rows at most
constexpr int64_t LONG = 512;  // context rows between two rescalings

// A block in scratch memory: rows of head_dim floats, a multiple of W. Padded rows are zero.
struct FewRows {
    int64_t rows, padded, dim;
    float *q, *sums, *scores;
    float *maximum, *weight;  // of each row: the largest score yet, the sum of weights

    static int64_t pad(int64_t rows) { return rows <= 2 ? rows : (rows + 3) / 4 * 4; }
    static int64_t floats(int64_t rows, int64_t dim) { return pad(rows) * (2 * dim + LONG + W) + 2 * FEW; }
};

FewRows prepare_few(const Attend& task, float* scratch) {
    FewRows w;
    w.rows = task.tokens * task.heads;
    w.padded = FewRows::pad(w.rows);
    w.dim = task.head_dim;
    w.q = scratch;
    w.sums = w.q + w.padded * w.dim;
    w.scores = w.sums + w.padded * w.dim;
    w.maximum = w.scores + w.padded * (LONG + W);
    w.weight = w.maximum + FEW;
    memset(w.q, 0, static_cast<size_t>(8 * w.padded * w.dim));
    const float scale = 1.0f / sqrtf(static_cast<float>(w.dim));
    for (int64_t r = 0; r < w.rows; ++r) {
        const float* from = row_of(task, task.q, r);
        for (int64_t d = 0; d < w.dim; d += W) store(w.q + r * w.dim + d, load(from + d) * scale);
    }
    for (int64_t r = 0; r < FEW; ++r) {
        w.maximum[r] = LEAST;
        w.weight[r] = 0.0f;
    }
    return w;
}

// Fetches rows in the order in which they will be read, FAR bytes ahead of the reader: a tile's keys, its values, the
// next tile's keys, and at last what the next block begins with.
class Ahead {
public:
    Ahead(const Attend& task, int64_t end)
        : task_(task), end_(end), tile_(task.begin), t_(task.begin), next_(task.next) {
        turn_to(task.keys, task.begin);
        rows(FAR / task.keys.row_bytes);
    }

    void rows(int64_t count) {
        while (count > 0) {
            const int64_t now = count < run_.count ? count : run_.count;
            if (run_.row) {
                fetch(run_.row, now * task_.keys.row_bytes);
                run_.row += now * task_.keys.row_bytes;
            }
            run_.count -= now;
            count -= now;
            if (run_.count == 0) turn();
        }
    }

private:
    static constexpr int64_t FAR = 8192;

    int64_t stop() const { return end_ - tile_ < LONG ? end_ : tile_ + LONG; }
    void turn_to(const Rows& rows, int64_t t) {
        run_ = run_at(rows, t, stop());
        t_ = t + run_.count;
    }
    void turn() {
        if (tile_ < end_) {
            if (t_ < stop()) return turn_to(values_ ? task_.values : task_.keys, t_);
            values_ = !values_;
            if (values_) return turn_to(task_.values, tile_);
            tile_ = stop();
            if (tile_ < end_) return turn_to(task_.keys, tile_);
        }
        run_ = next_ ? Run{next_, end_ - task_.begin} : Run{nullptr, INT64_MAX};
        next_ = nullptr;
    }

    const Attend& task_;
    int64_t end_, tile_, t_;
    const uint8_t* next_;
    bool values_ = false;
    Run run_;
};

// Scores of R query rows with W / R kept rows, so many that the sums over lanes are shared. Past the last row it is
// read again.
template <int R, CacheKind K>
inline void score(const float* q, int64_t dim, const Run& run, int64_t row_bytes, int64_t at, float* scores) {
    constexpr int B = W / R;
    vf acc[W] = {};
    const uint8_t* rows[B];
    if (at + B <= run.count) {
#pragma GCC unroll 16
        for (int b = 0; b < B; ++b) rows[b] = run.row + at * row_bytes + b * row_bytes;
    } else {
        for (int b = 0; b < B; ++b) rows[b] = run.row + (at + b < run.count ? at + b : run.count - 1) * row_bytes;
    }
    for (int64_t d = 0; d < dim; d += W) {
        vf query[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) query[r] = load(q + r * dim + d);
#pragma GCC unroll 16
        for (int b = 0; b < B; ++b) {
            const vf key = kept<K>(rows[b], d);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) acc[r * B + b] += query[r] * key;
        }
    }
    float lanes[W];
    store(lanes, sums(acc));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) memcpy(scores + r * (LONG + W), lanes + r * B, sizeof(float) * B);
}

// sums[R][C vectors] += weights[R] of each kept row times its values. Few sums are spread over several chains, to hide
// the latency of an addition.
template <int R, int C, CacheKind K>
inline void mix(const float* weights, const Run& run, int64_t row_bytes, int64_t col, float* sums, int64_t dim) {
    constexpr int CHAINS = R * C >= 8 ? 1 : R * C >= 3 ? 2 : 4;
    vf acc[CHAINS][R][C] = {};
    const auto step = [&](int64_t t, int chain) __attribute__((always_inline)) {
        const uint8_t* row = run.row + t * row_bytes;
        vf value[C];
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) value[j] = kept<K>(row, col + j * W);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            const vf weight = broadcast(weights[r * (LONG + W) + t]);
#pragma GCC unroll 4
            for (int j = 0; j < C; ++j) acc[chain][r][j] += weight * value[j];
        }
    };
    int64_t t = 0;
    for (; t + CHAINS <= run.count; t += CHAINS)
#pragma GCC unroll 4
        for (int chain = 0; chain < CHAINS; ++chain) step(t + chain, chain);
    for (; t < run.count; ++t) step(t, 0);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) {
            float* to = sums + r * dim + col + j * W;
            vf total = load(to);
#pragma GCC unroll 4
            for (int chain = 0; chain < CHAINS; ++chain) total += acc[chain][r][j];
            store(to, total);
        }
}

template <int R, CacheKind K>
inline void mix_run(const float* weights, const Run& run, int64_t row_bytes, float* sums, int64_t dim) {
    constexpr int C = REGISTERS == 32 ? 4 : 2;
    int64_t col = 0;
    for (; col + C * W <= dim; col += C * W) mix<R, C, K>(weights, run, row_bytes, col, sums, dim);
    const int64_t left = (dim - col) / W;
    if (C > 3 && left == 3) mix<R, 3, K>(weights, run, row_bytes, col, sums, dim);
    if (C > 2 && left == 2) mix<R, 2, K>(weights, run, row_bytes, col, sums, dim);
    if (left == 1) mix<R, 1, K>(weights, run, row_bytes, col, sums, dim);
}

// The running softmax of one query row: turns its scores into weights and rescales what it has summed.
void soften_row(FewRows& w, int64_t r, int64_t visible, int64_t count) {
    float* scores = w.scores + r * (LONG + W);
    const int64_t end = (count + W - 1) / W * W;
    for (int64_t t = visible < 0 ? 0 : visible < count ? visible : count; t < end; ++t) scores[t] = -INFINITY;
    const float before = w.maximum[r];
    vf most = broadcast(before), total = vf{};
    for (int64_t t = 0; t < end; t += W) most = max(most, load(scores + t));
    const float now = max_lane(most);
    for (int64_t t = 0; t < end; t += W) {
        const vf p = exp(load(scores + t) - now);
        store(scores + t, p);
        total += p;
    }
    if (now > before) {
        const float shrink = exp(broadcast(before - now))[0];
        w.weight[r] *= shrink;
        for (int64_t d = 0; d < w.dim; d += W) store(w.sums + r * w.dim + d, load(w.sums + r * w.dim + d) * shrink);
    }
    w.maximum[r] = now;
    w.weight[r] += sum(total);
}

// f(t, run) for [begin, end) in runs of at most SOME rows.
template <class F>
inline void in_runs(const Rows& rows, int64_t begin, int64_t end, const F& f) {
    constexpr int64_t SOME = 16;  // a multiple of the rows that are scored together
    for (int64_t t = begin; t < end;) {
        const Run whole = run_at(rows, t, end);
        for (int64_t i = 0; i < whole.count; i += SOME)
            f(t + i, Run{whole.row + i * rows.row_bytes, whole.count - i < SOME ? whole.count - i : SOME});
        t += whole.count;
    }
}

template <int R, CacheKind K>
void long_tile(const Attend& task, FewRows& w, Ahead& ahead, int64_t begin, int64_t end) {
    const int64_t row_bytes = task.keys.row_bytes;
    in_runs(task.keys, begin, end, [&](int64_t t, const Run& run) {
        float* scores = w.scores + t - begin;
        for (int64_t i = 0; i < run.count; i += W / R) {
            if (i % 4 == 0) ahead.rows(std::min<int64_t>(std::max(W / R, 4), run.count - i));
            for (int64_t r = 0; r < w.padded; r += R)
                score<R, K>(w.q + r * w.dim, w.dim, run, row_bytes, i, scores + r * (LONG + W) + i);
        }
    });
    for (int64_t r = 0; r < w.rows; ++r) soften_row(w, r, task.first + r / task.heads + 1 - begin, end - begin);
    in_runs(task.values, begin, end, [&](int64_t t, const Run& run) {
        ahead.rows(run.count);
        for (int64_t r = 0; r < w.padded; r += R)
            mix_run<R, K>(w.scores + r * (LONG + W) + t - begin, run, row_bytes, w.sums + r * w.dim, w.dim);
    });
}

template <CacheKind K>
Softened attend_few(const Attend& task, int64_t end, float* scratch) {
    Ahead ahead(task, end);
    FewRows w = prepare_few(task, scratch);
    for (int64_t begin = task.begin; begin < end; begin += LONG) {
        const int64_t stop = end - begin < LONG ? end : begin + LONG;
        if (w.padded == 1) long_tile<1, K>(task, w, ahead, begin, stop);
        if (w.padded == 2) long_tile<2, K>(task, w, ahead, begin, stop);
        if (w.padded >= 4) long_tile<4, K>(task, w, ahead, begin, stop);
    }
    return {w.rows, w.dim, w.sums, w.maximum, w.weight};
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
