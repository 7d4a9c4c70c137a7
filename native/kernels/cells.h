// Products of small matrices, as many rows and columns at a time as registers hold: of floats, or of pairs of 16-bit
// integers, which are twice as fast.
#pragma once
#include <type_traits>

#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int CELL_ROWS = 6;                        // rows of a product in registers
constexpr int CELL_COLS = REGISTERS == 32 ? 4 : 2;  // vectors

// f(at, rows) for [0, count) in steps of R rows and a last smaller one, `rows` being a constant.
template <int R, class F>
inline __attribute__((always_inline)) void in_steps(int64_t count, const F& f) {
    int64_t at = 0;
    for (; at + R <= count; at += R) f(at, std::integral_constant<int, R>());
    if constexpr (R > 1)
        if (at < count) in_steps<R - 1>(count - at, [&](int64_t more, auto rows) { f(at + more, rows); });
}

inline __attribute__((always_inline)) void multiply_add(vf& sum, const float* x, vf y) { sum += broadcast(*x) * y; }

#if defined(__AVX512VNNI__)
// Lanes of two integers each. In assembly, because GCC copies the sum otherwise.
inline __attribute__((always_inline)) void multiply_add(vi& sum, const float* x, vi y) {
    const __m512i pair = _mm512_set1_epi32(load_as<int32_t>(x));
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(pair), "v"(y));
}
#endif

// done(r, j, sum) for R rows of a and C vectors of b's columns; sum over k of a[r * row + k * step] * b[k][j].
template <class V, int R, int C, class F>
inline __attribute__((always_inline)) void cell(const float* a, int64_t row, int64_t step, const float* b,
                                                int64_t stride, int64_t depth, const F& done) {
    V acc[R][C] = {};
    for (int64_t k = 0; k < depth; ++k) {
        V column[C];
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) column[j] = load_as<V>(b + k * stride + j * W);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int j = 0; j < C; ++j) multiply_add(acc[r][j], a + r * row + k * step, column[j]);
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) done(r, j, acc[r][j]);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
