// Low-rank changes of products (LoRA): rows of x are narrowed to `rank` values each, and these are widened onto rows
// of y. No bit of a row's result depends on the rows beside it.
#include <type_traits>

#include "kernels.h"
#include "values.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int RANKS = 4;                          // rows of a, or of b, at a time
constexpr int ROWS = REGISTERS >= 32 ? 4 : 2;     // rows of x, or of y
constexpr int64_t COLUMNS = 256;                  // of y, near while all of b's rows go over them

// The dot products of R rows of x with Q rows of a.
template <int R, int Q, class T>
void dots(const float* const* x, const T* a, int64_t k, float* const* low) {
    vf sums[R][Q] = {};
    over(k, [&](int64_t i, auto part) {
        vf w[Q];
        for (int q = 0; q < Q; ++q) w[q] = part.get(a + q * k + i);
        for (int r = 0; r < R; ++r) {
            const vf v = part.get(x[r] + i);
            for (int q = 0; q < Q; ++q) sums[r][q] += v * w[q];
        }
    });
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < Q; ++q) low[r][q] = sum(sums[r][q]);
}

// R rows of y, `count` values from each, plus Q rows of b times the values of low.
template <int R, int Q, class T>
void axpys(const float* const* low, const T* b, int64_t stride, int64_t count, float* const* y) {
    over(count, [&](int64_t i, auto part) {
        vf w[Q];
        for (int q = 0; q < Q; ++q) w[q] = part.get(b + q * stride + i);
        for (int r = 0; r < R; ++r) {
            vf v = part.get(y[r] + i);
            for (int q = 0; q < Q; ++q) v += low[r][q] * w[q];
            part.put(y[r] + i, v);
        }
    });
}

// f(number, count) with the count as a constant, for `total` things at most Most at a time.
template <int Most, class F>
inline void by(int64_t total, const F& f) {
    int64_t i = 0;
    for (; i + Most <= total; i += Most) f(i, std::integral_constant<int, Most>());
    if constexpr (Most > 1)
        for (; i < total; ++i) f(i, std::integral_constant<int, 1>());
}

template <class T>
void narrow_all(const LowRankPart& part, const float* x, const T* a, float* low) {
    by<ROWS>(part.rows, [&](int64_t i, auto rows) {
        constexpr int R = decltype(rows)::value;
        const float* from[R];
        for (int r = 0; r < R; ++r) from[r] = x + part.row[i + r] * part.k;
        by<RANKS>(part.end - part.begin, [&](int64_t j, auto ranks) {
            constexpr int Q = decltype(ranks)::value;
            float* to[R];
            for (int r = 0; r < R; ++r) to[r] = low + (i + r) * part.rank + part.begin + j;
            dots<R, Q>(from, a + (part.begin + j) * part.k, part.k, to);
        });
    });
}

template <class T>
void widen_all(const LowRankPart& part, const float* low, const T* b, float* y) {
    for (int64_t begin = part.begin; begin < part.end; begin += COLUMNS) {
        const int64_t count = part.end - begin < COLUMNS ? part.end - begin : COLUMNS;
        by<ROWS>(part.rows, [&](int64_t i, auto rows) {
            constexpr int R = decltype(rows)::value;
            float* to[R];
            for (int r = 0; r < R; ++r) to[r] = y + part.row[i + r] * part.k + begin;
            by<RANKS>(part.rank, [&](int64_t j, auto ranks) {
                constexpr int Q = decltype(ranks)::value;
                const float* from[R];
                for (int r = 0; r < R; ++r) from[r] = low + (i + r) * part.rank + j;
                axpys<R, Q>(from, b + j * part.k + begin, part.k, count, to);
            });
        });
    }
}

void narrow(const LowRankPart& part, const float* x, const uint8_t* a, float* low) {
    if (part.type == Type::F16) return narrow_all(part, x, reinterpret_cast<const Half*>(a), low);
    if (part.type == Type::BF16) return narrow_all(part, x, reinterpret_cast<const BFloat*>(a), low);
    narrow_all(part, x, reinterpret_cast<const float*>(a), low);
}

void widen(const LowRankPart& part, const float* low, const uint8_t* b, float* y) {
    if (part.type == Type::F16) return widen_all(part, low, reinterpret_cast<const Half*>(b), y);
    if (part.type == Type::BF16) return widen_all(part, low, reinterpret_cast<const BFloat*>(b), y);
    widen_all(part, low, reinterpret_cast<const float*>(b), y);
}

}  // namespace

LowRank low_rank() { return {narrow, widen}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
