// A tile of a block of many query rows, computed with pairs of 16-bit integers, twice as fast as floats. Every row of
// queries, keys and values has a scale of its own, and so have the weights that a query row gives to a tile: finer than
// rounding them to halves. Sums of products stay below 2^31: for scores by their norms (Cauchy and Schwarz), for values
// by the sum of their weights.
#pragma once
#include <algorithm>

#include "cells.h"
#include "many_rows.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Limits of what is rounded, with room for that.
constexpr float MOST = 32767.0f;      // of an integer
constexpr float NORM = 46300.0f;      // of a query row or a key
constexpr float VALUE = 16383.0f;     // of an integer of a value
constexpr float WEIGHTS = 131000.0f;  // of the sum of a query row's weights in a tile

constexpr float LOG2E = 1.44269504f;

inline vi to_int(vf x) { return (vi)_mm512_cvtps_epi32((__m512)x); }
inline vf to_float(vi x) { return (vf)_mm512_cvtepi32_ps((__m512i)x); }
inline vi pairs(vi low, vi high) { return (vi)(((vu)low & 0xffffu) | (vu)high << 16); }
inline vf magnitude(vf x) { return max(x, -x); }

// limit / x, and 0 for 0.
inline vf share(float limit, vf x) { return select(x > vf{}, limit / x, vf{}); }

// 2^x for x up to about 0 with a relative error of 4e-6, far below what rounding the result to an integer costs; 0 below
// 2^-126.
inline vf power_of_2(vf x) {
    const __mmask16 stays = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    const vf n = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
    vf p = r * 0.00957009f + 0.05591786f;
    p = p * r + 0.24024745f;
    p = p * r + 0.69312181f;
    p = p * r + 0.99999926f;
    return (vf)_mm512_maskz_scalef_ps(stays, (__m512)p, (__m512)n);
}

struct Pairs {
    // The queries of every lane as integers.
    static void prepare_queries(ManyRows& w) {
        for (int64_t r = 0; r < w.padded; r += W) {
            float* column = w.queries + r / GROUP * GROUP * w.width + r % GROUP;
            vf squares = vf{}, most = vf{};
            for (int64_t d = 0; d < w.dim; ++d) {
                const vf x = load(column + d * w.lanes);
                squares += x * x;
                most = max(most, magnitude(x));
            }
            const vf scale = min(share(NORM, (vf)_mm512_sqrt_ps((__m512)squares)), share(MOST, most));
            store(w.query_unit + r, select(scale > vf{}, 1.0f / scale, broadcast(1.0f)));
            for (int64_t d = 0; d < w.dim; d += 2) {
                const float* from = column + d * w.lanes;
                const vi both = pairs(to_int(load(from) * scale), to_int(load(from + w.lanes) * scale));
                memcpy(column + d / 2 * w.lanes, &both, sizeof both);
            }
        }
    }

    template <CacheKind K>
    static void unpack_keys(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w) {
        in_rows(rows, begin, end, [&](int64_t t, const uint8_t* row) {
            vf squares = vf{}, most = vf{};
            for (int64_t d = 0; d < w.dim; d += W) {
                const vf x = kept_any<K>(row, d, w.dim);
                squares += x * x;
                most = max(most, magnitude(x));
            }
            const float unit = std::max(sqrtf(sum(squares)) / NORM, max_lane(most) / MOST);
            const float scale = unit > 0.0f ? 1.0f / unit : 0.0f;
            w.key_unit[t] = unit;
            int16_t* to = reinterpret_cast<int16_t*>(w.keys + t * w.width / 2);
            for (int64_t d = 0; d < w.dim; d += W) {
                const __m256i x = _mm512_cvtsepi32_epi16((__m512i)to_int(kept_any<K>(row, d, w.dim) * scale));
                memcpy(to + d, &x, sizeof x);
            }
        });
    }

    // Two rows of values at a time, mingled.
    template <CacheKind K>
    static void unpack_values(const Rows& rows, int64_t begin, int64_t end, const ManyRows& w) {
        const uint8_t* found[T];
        in_rows(rows, begin, end, [&](int64_t t, const uint8_t* row) {
            found[t] = row;
            vf most = vf{};
            for (int64_t d = 0; d < w.dim; d += W) most = max(most, magnitude(kept_any<K>(row, d, w.dim)));
            w.value_unit[t] = max_lane(most) / VALUE;
        });
        const int64_t count = end - begin;
        if (count % 2) {  // paired with nothing
            found[count] = found[count - 1];
            w.value_unit[count] = 0.0f;
        }
        for (int64_t t = 0; t < count; t += 2) {
            const vf scale = share(1.0f, broadcast(w.value_unit[t]));
            const vf next = share(1.0f, broadcast(w.value_unit[t + 1]));
            for (int64_t d = 0; d < w.dim; d += W) {
                const vi both = pairs(to_int(kept_any<K>(found[t], d, w.dim) * scale),
                                      to_int(kept_any<K>(found[t + 1], d, w.dim) * next));
                memcpy(w.values + t / 2 * w.width + d, &both, sizeof both);
            }
        }
    }

    // Scores of `count` rows of the tile with `lanes` query rows, in units of both.
    static void score_group(const ManyRows& w, const float* queries, int64_t lanes, int64_t count) {
        in_steps<CELL_COLS>(lanes / W, [&](int64_t v, auto cols) {
            in_steps<CELL_ROWS>(count, [&](int64_t t, auto rows) {
                float* to = w.scores + t * w.lanes + v * W;
                cell<vi, rows, cols>(w.keys + t * w.width / 2, w.width / 2, 1, queries + v * W, w.lanes, w.dim / 2,
                                     [&](int r, int j, vi sum) { memcpy(to + r * w.lanes + j * W, &sum, sizeof sum); });
            });
        });
    }

    // The running softmax of the W query rows from r on: turns their scores into weights, two context rows a lane.
    static void soften_lanes(ManyRows& w, int64_t r, int64_t begin, int64_t count) {
        float* scores = w.scores + r % GROUP;
        const vi seen = load_as<vi>(w.seen + r);
        const vf unit = load(w.query_unit + r), before = load(w.maximum + r);
        const bool all = w.seen[r] >= begin + count;
        vf most = broadcast(-INFINITY);
        for (int64_t t = 0; t < count; ++t) {
            vf score = to_float(load_as<vi>(scores + t * w.lanes)) * w.key_unit[t];
            if (!all) score = select(static_cast<int32_t>(begin + t) - vi{} < seen, score, broadcast(-INFINITY));
            store(scores + t * w.lanes, score);
            most = max(most, score);
        }
        most = max(before, most * unit);
        const vf unit2 = unit * LOG2E, most2 = most * LOG2E;
        vf total = vf{}, spread = vf{}, largest = vf{};
        for (int64_t t = 0; t < count; ++t) {
            const vf p = power_of_2(load(scores + t * w.lanes) * unit2 - most2), weighted = p * w.value_unit[t];
            store(scores + t * w.lanes, weighted);
            total += p;
            spread += weighted;
            largest = max(largest, weighted);
        }
        const vf scale = min(share(WEIGHTS, spread), share(MOST, largest));
        if (count % 2) store(scores + count * w.lanes, vf{});
        for (int64_t t = 0; t < count; t += 2) {
            const float* from = scores + t * w.lanes;
            const vi both = pairs(to_int(load(from) * scale), to_int(load(from + w.lanes) * scale));
            memcpy(scores + t / 2 * w.lanes, &both, sizeof both);
        }
        const vf shrink = exp(before - most);
        store(w.weight_unit + r, share(1.0f, scale));
        store(w.maximum + r, most);
        store(w.shrink + r, shrink);
        store(w.weight + r, load(w.weight + r) * shrink + total);
    }

    // Adds the tile's values by their weights to what the query rows from `first` on have summed.
    static void mix_group(const ManyRows& w, int64_t first, int64_t rows, int64_t count) {
        in_steps<CELL_COLS>(w.width / W, [&](int64_t v, auto cols) {
            in_steps<CELL_ROWS>(rows, [&](int64_t r, auto some) {
                float* to = w.sums + (first + r) * w.width + v * W;
                const float *shrink = w.shrink + first + r, *unit = w.weight_unit + first + r;
                cell<vi, some, cols>(w.scores + r, 1, w.lanes, w.values + v * W, w.width, (count + 1) / 2,
                                     [&](int i, int j, vi sum) {
                                         float* at = to + i * w.width + j * W;
                                         store(at, load(at) * shrink[i] + to_float(sum) * unit[i]);
                                     });
            });
        });
    }
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
