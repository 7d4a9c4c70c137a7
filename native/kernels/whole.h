// Causal attention of a whole sequence and its gradient, with floats. A block of queries meets all keys that it sees at
// once, so that its softmax needs no running maximum; what the backward pass needs of it is one number a row.
#pragma once
#include <cmath>
#include <initializer_list>

#include "cells.h"
#include "values.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t BLOCK = 60;  // queries: a multiple of CELL_ROWS

constexpr int64_t whole_vectors(int64_t x) { return (x + W - 1) / W * W; }

// A sequence's arrays in scratch memory: `width` floats a row, `tokens` of them, and turned ones the other way round.
struct Unpacked {
    int64_t width, tokens;
    float *keys, *turned_keys, *values, *turned_values, *dkeys, *dvalues;  // values share with dvalues forward
    float *queries, *gradients, *result;                                   // of a block
    float *scores, *dscores;                                               // of a block: `tokens` a row

    Unpacked(float* scratch, int64_t length, int64_t dim) : width(whole_vectors(dim)), tokens(whole_vectors(length)) {
        float** const whole[] = {&keys, &turned_keys, &turned_values, &dkeys, &dvalues};
        for (float** array : whole) *array = scratch, scratch += tokens * width;
        values = dvalues;
        for (float** array : {&queries, &gradients, &result}) *array = scratch, scratch += BLOCK * width;
        for (float** array : {&scores, &dscores}) *array = scratch, scratch += BLOCK * tokens;
    }
    static int64_t floats(int64_t length, int64_t dim) {
        return whole_vectors(dim) * (5 * whole_vectors(length) + 3 * BLOCK) + 2 * BLOCK * whole_vectors(length);
    }
};

// Rows as floats, times `scale`; the lanes after a row's end are zero.
template <class T>
void unpack(const T* from, int64_t stride, int64_t rows, int64_t dim, float scale, float* to, int64_t width) {
    for (; rows > 0; --rows, from += stride, to += width)
        over(dim, [&](int64_t d, auto piece) { store(to + d, piece.get(from + d) * scale); });
}

// to[d * tokens + t] = from[t][d]
template <class T>
void unpack_turned(const T* from, int64_t stride, int64_t rows, int64_t dim, float* to, int64_t tokens) {
    for (int64_t t = 0; t < rows; t += W)
        over(dim, [&](int64_t d, auto piece) {
            vf square[W] = {};
            for (int64_t r = 0; r < W && t + r < rows; ++r) square[r] = piece.get(from + (t + r) * stride + d);
            transpose(square);
            for (int64_t c = 0; c < W && d + c < dim; ++c) store(to + (d + c) * tokens + t, square[c]);
        });
}

template <class T>
void pack(const float* from, int64_t width, int64_t rows, int64_t dim, float scale, T* to, int64_t stride) {
    for (; rows > 0; --rows, from += width, to += stride)
        over(dim, [&](int64_t d, auto piece) { piece.put(to + d, load(from + d) * scale); });
}

// done(row, column, sum) of a (rows x depth) times b (depth x columns), columns in vectors; a[r * row + k * step].
template <class F>
inline void product(const float* a, int64_t row, int64_t step, int64_t rows, const float* b, int64_t stride,
                    int64_t columns, int64_t depth, const F& done) {
    in_steps<CELL_COLS>(columns / W, [&](int64_t v, auto cols) {
        in_steps<CELL_ROWS>(rows, [&](int64_t r, auto some) {
            cell<vf, some, cols>(a + r * row, row, step, b + v * W, stride, depth,
                                 [&](int i, int j, vf sum) { done(r + i, (v + j) * W, sum); });
        });
    });
}

// Softmax of the first `seen` scores; zeros up to `count`. Returns the log of its denominator.
inline float soften(float* scores, int64_t seen, int64_t count) {
    vf most = broadcast(-INFINITY), total = vf{};
    for (int64_t t = seen; t < count; ++t) scores[t] = -INFINITY;
    for (int64_t t = 0; t < count; t += W) most = max(most, load(scores + t));
    const float largest = max_lane(most);
    for (int64_t t = 0; t < count; t += W) {
        const vf p = exp(load(scores + t) - largest);
        store(scores + t, p);
        total += p;
    }
    const float sums = sum(total), share = 1.0f / sums;
    for (int64_t t = 0; t < count; t += W) store(scores + t, load(scores + t) * share);
    return largest + logf(sums);
}

template <class T>
void attend_whole(const AttendWhole& task, float* scratch) {
    const int64_t dim = task.head_dim;
    const Unpacked u(scratch, task.length, dim);
    unpack_turned(static_cast<const T*>(task.k), task.k_stride, task.length, dim, u.turned_keys, u.tokens);
    unpack(static_cast<const T*>(task.v), task.k_stride, task.length, dim, 1.0f, u.values, u.width);
    const float scale = 1.0f / sqrtf(static_cast<float>(dim));
    for (int64_t h = 0; h < task.heads; ++h)
        for (int64_t first = 0; first < task.length; first += BLOCK) {
            const int64_t rows = task.length - first < BLOCK ? task.length - first : BLOCK, seen = first + rows;
            const int64_t at = first * task.q_stride + h * dim, count = whole_vectors(seen);
            unpack(static_cast<const T*>(task.q) + at, task.q_stride, rows, dim, scale, u.queries, u.width);
            product(u.queries, u.width, 1, rows, u.turned_keys, u.tokens, count, dim,
                    [&](int64_t r, int64_t t, vf sum) { store(u.scores + r * u.tokens + t, sum); });
            for (int64_t r = 0; r < rows; ++r)
                task.normaliser[h * task.normaliser_stride + first + r] =
                    soften(u.scores + r * u.tokens, first + r + 1, count);
            product(u.scores, u.tokens, 1, rows, u.values, u.width, u.width, seen,
                    [&](int64_t r, int64_t d, vf sum) { store(u.result + r * u.width + d, sum); });
            pack(u.result, u.width, rows, dim, 1.0f, static_cast<T*>(task.out) + at, task.q_stride);
        }
}

// Turns scores into weights p and dscores, the gradients of p, into those of scores: p (dp - sum p dp).
inline void soften_back(float* scores, float* dscores, float normaliser, int64_t seen, int64_t count) {
    for (int64_t t = seen; t < count; ++t) scores[t] = -INFINITY;
    vf total = vf{};
    for (int64_t t = 0; t < count; t += W) {
        const vf p = exp(load(scores + t) - normaliser);
        store(scores + t, p);
        total += p * load(dscores + t);
    }
    const float mean = sum(total);
    for (int64_t t = 0; t < count; t += W) store(dscores + t, load(scores + t) * (load(dscores + t) - mean));
}

template <class T>
void attend_whole_back(const AttendWhole& task, float* scratch) {
    const int64_t dim = task.head_dim;
    const Unpacked u(scratch, task.length, dim);
    unpack(static_cast<const T*>(task.k), task.k_stride, task.length, dim, 1.0f, u.keys, u.width);
    unpack_turned(static_cast<const T*>(task.k), task.k_stride, task.length, dim, u.turned_keys, u.tokens);
    unpack_turned(static_cast<const T*>(task.v), task.k_stride, task.length, dim, u.turned_values, u.tokens);
    memset(u.dkeys, 0, sizeof(float) * static_cast<size_t>(u.tokens * u.width));
    memset(u.dvalues, 0, sizeof(float) * static_cast<size_t>(u.tokens * u.width));
    const float scale = 1.0f / sqrtf(static_cast<float>(dim));
    const auto add_to = [&](float* array) {
        return [array, &u](int64_t t, int64_t d, vf sum) {
            float* to = array + t * u.width + d;
            store(to, load(to) + sum);
        };
    };
    for (int64_t h = 0; h < task.heads; ++h)
        for (int64_t first = 0; first < task.length; first += BLOCK) {
            const int64_t rows = task.length - first < BLOCK ? task.length - first : BLOCK, seen = first + rows;
            const int64_t at = first * task.q_stride + h * dim, count = whole_vectors(seen);
            unpack(static_cast<const T*>(task.q) + at, task.q_stride, rows, dim, scale, u.queries, u.width);
            unpack(static_cast<const T*>(task.gradient) + at, task.q_stride, rows, dim, 1.0f, u.gradients, u.width);
            product(u.queries, u.width, 1, rows, u.turned_keys, u.tokens, count, dim,
                    [&](int64_t r, int64_t t, vf sum) { store(u.scores + r * u.tokens + t, sum); });
            product(u.gradients, u.width, 1, rows, u.turned_values, u.tokens, count, dim,
                    [&](int64_t r, int64_t t, vf sum) { store(u.dscores + r * u.tokens + t, sum); });
            for (int64_t r = 0; r < rows; ++r)
                soften_back(u.scores + r * u.tokens, u.dscores + r * u.tokens,
                            task.normaliser[h * task.normaliser_stride + first + r], first + r + 1, count);
            product(u.dscores, u.tokens, 1, rows, u.keys, u.width, u.width, seen,
                    [&](int64_t r, int64_t d, vf sum) { store(u.result + r * u.width + d, sum); });
            pack(u.result, u.width, rows, dim, scale, static_cast<T*>(task.dq) + at, task.q_stride);
            product(u.dscores, 1, u.tokens, seen, u.queries, u.width, u.width, rows, add_to(u.dkeys));
            product(u.scores, 1, u.tokens, seen, u.gradients, u.width, u.width, rows, add_to(u.dvalues));
        }
    pack(u.dkeys, u.width, task.length, dim, 1.0f, static_cast<T*>(task.dk), task.k_stride);
    pack(u.dvalues, u.width, task.length, dim, 1.0f, static_cast<T*>(task.dv), task.k_stride);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
