// Attention of a block of queries over their context, tile by tile with a running softmax (Milakov and Gimelshein
// 2018; Dao et al. 2022). All query heads of a key head go together, so that a kept row is read once for all of them.
// Few query rows read the kept rows directly; many unpack each tile once, keys transposed, and multiply matrices.
#include <cmath>

#include "kept.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t T = 64;                           // context rows in a tile
constexpr int64_t FEW = 8;                          // query rows that read directly
constexpr int64_t MANY = 64;                        // query rows in a block otherwise
constexpr int CELL_ROWS = 4;                        // query rows in registers
constexpr int CELL_COLS = REGISTERS == 32 ? 4 : 2;  // vectors in registers
constexpr float NOTHING = -INFINITY;

constexpr int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// Rows of a second factor: unpacked floats, or a tile of kept rows.
struct Flat {
    const float* p;
    int64_t stride;
    vf at(int64_t row, int64_t col) const { return load(p + row * stride + col); }
};
template <CacheKind K>
struct Kept {
    const uint8_t* const* rows;
    vf at(int64_t row, int64_t col) const { return kept<K>(rows[row], col); }
};

// A block in scratch memory. Padded query rows are zero.
struct Work {
    int64_t rows, padded;  // query rows, and what they are padded to
    int64_t dim, width;    // head_dim, and what it is padded to
    float *q, *sums, *scores, *keys, *values;
    float *maximum, *weight;  // per query row: the largest score yet, the sum of weights
    const uint8_t *key_rows[T], *value_rows[T];
};

int64_t padded_rows(int64_t rows) { return rows <= 2 ? rows : round_up(rows, CELL_ROWS); }

size_t scratch_bytes(int64_t rows, int64_t dim) {
    const int64_t padded = padded_rows(rows), width = round_up(dim, W);
    const int64_t floats = 2 * padded * width + padded * T + 2 * round_up(padded, 16) + 2 * width * T;
    return static_cast<size_t>(4 * floats + 64 * 8);
}

Work prepare(const Attend& task, void* scratch) {
    Work w;
    w.rows = task.tokens * task.heads;
    w.padded = padded_rows(w.rows);
    w.dim = task.head_dim;
    w.width = round_up(task.head_dim, W);
    float* next = static_cast<float*>(scratch);
    const auto take = [&next](int64_t floats) {
        float* p = next;
        next += round_up(floats, 16);
        return p;
    };
    w.q = take(w.padded * w.width);
    w.sums = take(w.padded * w.width);
    w.scores = take(w.padded * T);
    w.maximum = take(w.padded);
    w.weight = take(w.padded);
    w.keys = take(w.width * T);
    w.values = take(T * w.width);
    memset(w.q, 0, static_cast<size_t>(4 * w.padded * w.width));
    memset(w.sums, 0, static_cast<size_t>(4 * w.padded * w.width));
    const float scale = 1.0f / sqrtf(static_cast<float>(task.head_dim));
    for (int64_t r = 0; r < w.rows; ++r) {
        const float* from = task.q + r / task.heads * task.q_stride + r % task.heads * task.head_dim;
        for (int64_t d = 0; d < w.dim; ++d) w.q[r * w.width + d] = from[d] * scale;
        w.maximum[r] = NOTHING;
        w.weight[r] = 0.0f;
    }
    return w;
}

void find_rows(const Rows& rows, int64_t begin, int64_t count, const uint8_t** out) {
    if (!rows.pages) {
        for (int64_t t = 0; t < count; ++t) out[t] = rows.base + (begin + t) * rows.row_bytes;
        return;
    }
    int64_t index = begin / rows.page, slot = begin % rows.page;
    for (int64_t t = 0; t < count; ++index, slot = 0) {
        const uint8_t* run = rows.base + rows.pages[index] * rows.page_bytes;
        for (; slot < rows.page && t < count; ++slot, ++t) out[t] = run + slot * rows.row_bytes;
    }
}

// c[R][C vectors] (+)= a[R][depth] times the rows of b. Few sums are spread over several chains, to hide the latency
// of an addition.
template <int R, int C, class B>
inline void cell(const float* a, int64_t lda, const B& b, int64_t depth, float* c, int64_t ldc, int64_t col,
                 bool more) {
    constexpr int CHAINS = R * C >= 8 ? 1 : R * C >= 3 ? 2 : 4;
    vf acc[CHAINS][R][C] = {};
    const auto step = [&](int64_t t, int chain) {
        vf row[C];
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) row[j] = b.at(t, col + j * W);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int j = 0; j < C; ++j) acc[chain][r][j] += a[r * lda + t] * row[j];
    };
    int64_t t = 0;
    for (; t + CHAINS <= depth; t += CHAINS)
#pragma GCC unroll 4
        for (int chain = 0; chain < CHAINS; ++chain) step(t + chain, chain);
    for (; t < depth; ++t) step(t, 0);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) {
            float* to = c + r * ldc + col + j * W;
            vf total = more ? load(to) : vf{};
#pragma GCC unroll 4
            for (int chain = 0; chain < CHAINS; ++chain) total += acc[chain][r][j];
            store(to, total);
        }
}

template <int R, class B>
void multiply(const float* a, int64_t lda, const B& b, int64_t depth, float* c, int64_t ldc, int64_t rows, int64_t cols,
              bool more) {
    for (int64_t r = 0; r < rows; r += R, a += R * lda, c += R * ldc) {
        int64_t col = 0;
        for (; col + CELL_COLS * W <= cols; col += CELL_COLS * W)
            cell<R, CELL_COLS>(a, lda, b, depth, c, ldc, col, more);
        const int64_t left = (cols - col) / W;
        if (CELL_COLS > 3 && left == 3) cell<R, 3>(a, lda, b, depth, c, ldc, col, more);
        if (CELL_COLS > 2 && left == 2) cell<R, 2>(a, lda, b, depth, c, ldc, col, more);
        if (left == 1) cell<R, 1>(a, lda, b, depth, c, ldc, col, more);
    }
}

// Scores of R query rows against `count` kept rows, several of them at a time so that sums over lanes are shared.
template <int R, CacheKind K>
void direct_scores(const float* q, const Work& w, int64_t count, float* scores) {
    constexpr int B = W / R;
    for (int64_t t = 0; t < count; t += B) {
        vf acc[W] = {};
        const uint8_t* rows[B];
        for (int b = 0; b < B; ++b) rows[b] = w.key_rows[t + b < count ? t + b : count - 1];
        for (int64_t d = 0; d < w.dim; d += W) {
            vf query[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) query[r] = load(q + r * w.width + d);
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
        for (int r = 0; r < R; ++r) memcpy(scores + r * T + t, lanes + r * B, sizeof(float) * B);
    }
}

// The running softmax of one query row: turns its scores into weights and rescales what it has summed.
void soften(Work& w, int64_t r, int64_t visible, int64_t count) {
    float* scores = w.scores + r * T;
    const int64_t end = round_up(count, W);
    if (visible <= 0) {
        memset(scores, 0, static_cast<size_t>(4 * end));
        return;
    }
    for (int64_t t = visible < count ? visible : count; t < end; ++t) scores[t] = NOTHING;
    vf most = broadcast(w.maximum[r]);
    for (int64_t t = 0; t < end; t += W) most = max(load(scores + t), most);
    const float before = w.maximum[r], now = max_lane(most);
    vf total = vf{};
    for (int64_t t = 0; t < end; t += W) {
        const vf p = exp(load(scores + t) - now);
        store(scores + t, p);
        total += p;
    }
    if (now > before) {
        const float shrink = exp(broadcast(before - now))[0];
        w.weight[r] *= shrink;
        for (int64_t d = 0; d < w.width; d += W)
            store(w.sums + r * w.width + d, load(w.sums + r * w.width + d) * shrink);
    }
    w.maximum[r] = now;
    w.weight[r] += sum(total);
}

template <CacheKind K>
void unpack(Work& w, int64_t count) {
    const auto read = [&w](const uint8_t* row, int64_t d) {
        return d + W <= w.dim ? kept<K>(row, d) : kept_part<K>(row, d, w.dim - d);
    };
    for (int64_t t = 0; t < count; t += W)
        for (int64_t d = 0; d < w.dim; d += W) {
            vf square[W];
            for (int64_t i = 0; i < W; ++i) square[i] = read(w.key_rows[t + i < count ? t + i : count - 1], d);
            transpose(square);
            for (int64_t i = 0; i < W; ++i) store(w.keys + (d + i) * T + t, square[i]);
        }
    for (int64_t t = 0; t < count; ++t)
        for (int64_t d = 0; d < w.dim; d += W) store(w.values + t * w.width + d, read(w.value_rows[t], d));
}

template <int R, CacheKind K>
void direct_tile(const Attend& task, Work& w, int64_t begin, int64_t count) {
    constexpr int S = R < W ? R : W;
    for (int64_t r = 0; r < w.padded; r += S) direct_scores<S, K>(w.q + r * w.width, w, count, w.scores + r * T);
    for (int64_t r = 0; r < w.rows; ++r) soften(w, r, task.first + r / task.heads + 1 - begin, count);
    multiply<R>(w.scores, T, Kept<K>{w.value_rows}, count, w.sums, w.width, w.padded, w.width, true);
}

template <CacheKind K>
void tile(const Attend& task, Work& w, int64_t begin, int64_t count) {
    if (w.rows <= FEW && w.dim == w.width) {
        if (w.padded == 1) return direct_tile<1, K>(task, w, begin, count);
        if (w.padded == 2) return direct_tile<2, K>(task, w, begin, count);
        return direct_tile<CELL_ROWS, K>(task, w, begin, count);
    }
    const int64_t cols = round_up(count, W);
    unpack<K>(w, count);
    if (w.padded % CELL_ROWS) {
        multiply<1>(w.q, w.width, Flat{w.keys, T}, w.dim, w.scores, T, w.padded, cols, false);
    } else {
        multiply<CELL_ROWS>(w.q, w.width, Flat{w.keys, T}, w.dim, w.scores, T, w.padded, cols, false);
    }
    for (int64_t r = 0; r < w.rows; ++r) soften(w, r, task.first + r / task.heads + 1 - begin, count);
    if (w.padded % CELL_ROWS) {
        multiply<1>(w.scores, T, Flat{w.values, w.width}, count, w.sums, w.width, w.padded, w.width, true);
    } else {
        multiply<CELL_ROWS>(w.scores, T, Flat{w.values, w.width}, count, w.sums, w.width, w.padded, w.width, true);
    }
}

void finish(const Attend& task, const Work& w) {
    float *sums = task.partial, *maxima = sums + w.rows * w.dim, *weights = maxima + w.rows;
    for (int64_t r = 0; r < w.rows; ++r) {
        const float* from = w.sums + r * w.width;
        if (task.partial) {
            memcpy(sums + r * w.dim, from, static_cast<size_t>(4 * w.dim));
            maxima[r] = w.maximum[r];
            weights[r] = w.weight[r];
            continue;
        }
        float* to = task.out + r / task.heads * task.q_stride + r % task.heads * w.dim;
        const float share = 1.0f / w.weight[r];
        for (int64_t d = 0; d < w.dim; ++d) to[d] = from[d] * share;
    }
}

void attend(const Attend& task, void* scratch) {
    Work w = prepare(task, scratch);
    const int64_t seen = task.first + task.tokens, end = task.end < seen ? task.end : seen;
    for (int64_t begin = task.begin; begin < end; begin += T) {
        const int64_t count = end - begin < T ? end - begin : T;
        find_rows(task.keys, begin, count, w.key_rows);
        find_rows(task.values, begin, count, w.value_rows);
        if (task.kind == CacheKind::F32) tile<CacheKind::F32>(task, w, begin, count);
        if (task.kind == CacheKind::F16) tile<CacheKind::F16>(task, w, begin, count);
        if (task.kind == CacheKind::Q8_0) tile<CacheKind::Q8_0>(task, w, begin, count);
    }
    finish(task, w);
}

void merge(const float* partial, int64_t parts, int64_t stride, float* out, int64_t q_stride, int64_t tokens,
           int64_t heads, int64_t head_dim) {
    const int64_t rows = tokens * heads;
    for (int64_t r = 0; r < rows; ++r) {
        float* to = out + r / heads * q_stride + r % heads * head_dim;
        const float* maxima = partial + rows * head_dim + r;
        float most = NOTHING, total = 0.0f;
        for (int64_t p = 0; p < parts; ++p) most = maxima[p * stride] > most ? maxima[p * stride] : most;
        memset(to, 0, static_cast<size_t>(4 * head_dim));
        for (int64_t p = 0; p < parts; ++p) {
            const float scale = exp(broadcast(maxima[p * stride] - most))[0];
            const float* from = partial + p * stride + r * head_dim;
            total += maxima[p * stride + rows] * scale;
            for (int64_t d = 0; d < head_dim; ++d) to[d] += from[d] * scale;
        }
        for (int64_t d = 0; d < head_dim; ++d) to[d] /= total;
    }
}

int64_t block(int64_t heads) { return heads < MANY ? MANY / heads : 1; }

}  // namespace

Attention attention() { return {block, scratch_bytes, attend, merge, keep}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
