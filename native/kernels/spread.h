// A handful of rows of activations, 5 to 16: too many to be bound by memory alone, too few to pay for laying weight
// rows side by side. Here the activations lie side by side, P rows in a register, each with 16 / P lanes that take a
// group of 32 each, four bytes of it at a time. The weights, unpacked row by row and laid in the same order, are
// broadcast against them; one multiplication then gives all lanes the scales of their groups.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// How many rows share a register when there are n: each has lanes / P lanes of it.
constexpr int64_t spread_most = 16;

// 256 values of each of P rows, in steps: `row_lanes` groups of 32 each, or the first and then the second halves of
// these where scales serve 16. What is kept once for a group lies in its lane.
template <int P>
struct alignas(64) SpreadBlock {
    static constexpr int row_lanes = 16 / P, bytes = 4 * row_lanes, steps = 8 / row_lanes;
    int8_t q[4 * P][64];
    float scale[steps][16];
    float total[steps][16];    // as in Int8Block
    int32_t start[steps][16];  // likewise, without the bias
    float total16[2 * steps][16];
    int32_t start16[2 * steps][16];

    void put(int row, const Int8Block& x) {
        for (int g = 0; g < 8; ++g) {
            const int step = g / row_lanes, lane = row * row_lanes + g % row_lanes;
            for (int i = 0; i < 8; ++i) std::memcpy(q[8 * step + i] + 4 * lane, x.q + 32 * g + 4 * i, 4);
            scale[step][lane] = x.scale[g];
            total[step][lane] = x.total[g];
            start[step][lane] = x.start[g] - biased_zero;
            for (int half = 0; half < 2; ++half) {
                const int32_t start = x.starts16[2 * g + half] - biased_zero;
                start16[2 * step + half][lane] = start;
                total16[2 * step + half][lane] = float(start) / -128.0f * x.scale[g];
            }
        }
    }
};

// Calls f with the width of n rows as a constant.
template <class F>
LLAMERO_INLINE auto with_width(int64_t n, const F& f) {
    if (n <= 8) return f(std::integral_constant<int, 8>());
    return f(std::integral_constant<int, 16>());
}

size_t spread_bytes(int64_t n, int64_t k) {
    return with_width(n, [&](auto width) { return size_t(Int8Row::blocks(k)) * sizeof(SpreadBlock<width>); });
}

// All n rows at once: they share cache lines.
void spread_prepare(const float* x, int64_t n, int64_t k, void* out) {
    with_width(n, [&](auto width) {
        SpreadBlock<width>* to = static_cast<SpreadBlock<width>*>(out);
        std::memset(out, 0, spread_bytes(n, k));
        for (int64_t b = 0; b < Int8Row::blocks(k); ++b)
            for (int64_t row = 0; row < n; ++row) {
                Int8Block one;
                one.prepare(x + row * k + b * 256, k - b * 256);
                to[b].put(int(row), one);
            }
    });
}

// The same 64 / P bytes for every row.
template <int P>
LLAMERO_INLINE __m512i repeat_bytes(const void* p) {
    if (P == 8) return _mm512_set1_epi64(load<int64_t>(p));
    return _mm512_set1_epi32(load<int32_t>(p));
}
template <int P>
LLAMERO_INLINE Floats repeat_floats(const float* p) { return _mm512_castsi512_ps(repeat_bytes<P>(p)); }

// 128 quants in the order of SpreadBlock's bytes.
template <int P>
LLAMERO_INLINE void put_quants(uint8_t* to, Quants a, Quants b) {
    const __m512i pairs = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    store_quants(to, P == 8 ? _mm512_permutexvar_epi32(pairs, a) : a);
    store_quants(to + 64, P == 8 ? _mm512_permutexvar_epi32(pairs, b) : b);
}

// What every group has, in the order of SpreadBlock's steps.
template <int P>
LLAMERO_INLINE void put_in_steps(float* to, const F32x8 (&v)[1]) { store(to, v[0]); }
template <int P>
LLAMERO_INLINE void put_in_steps(float* to, const F32x8 (&v)[2]) {
    const __m512 all = _mm512_insertf32x8(_mm512_castps256_ps512((__m256)v[0]), (__m256)v[1], 1);
    const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    store_floats(to, P == 16 ? all : _mm512_permutexvar_ps(order, all));
}

// The sums of one weight row, the lanes of each row of activations added up.
template <int P>
LLAMERO_INLINE void put_spread(Floats sums, float* y, int64_t n, int64_t ldy) {
    constexpr int row_lanes = 16 / P;
    alignas(64) float parts[16];
    store_floats(parts, sums);
    for (int64_t i = 0; i < n; ++i) {
        float all = parts[i * row_lanes];
        LLAMERO_UNROLL
        for (int l = 1; l < row_lanes; ++l) all += parts[i * row_lanes + l];
        y[i * ldy] = all;
    }
}

// R weight rows meet up to P rows of activations.
template <class C, int P, int R>
class Spread {
public:
    // y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
    static LLAMERO_ALONE void run(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy,
                                  int64_t begin, int64_t end) {
        Spread s;
        for (int64_t j = begin; j < end; j += R) {
            const Block* x = static_cast<const Block*>(prepared);
            Sums sums;
            LLAMERO_UNROLL
            for (int r = 0; r < R; ++r) sums[r] = zero_floats();
            for (int64_t at = 0; at < w.k; at += 256) {
                s.unpack_rows(w, w.data + j * w.row_bytes, end - j, at);
                s.add_stretch(*x++, sums);
            }
            put(sums, y + j, n, ldy, end - j);
        }
    }

private:
    using Block = SpreadBlock<P>;
    using Sums = Floats[R];
    static constexpr int groups = 256 / C::group, steps = groups / Block::row_lanes;
    static constexpr int pieces = C::group / 4;  // registers that a step takes
    alignas(64) uint8_t q[R][256];
    float scale[R][groups], min[R][groups];

    LLAMERO_INLINE void unpack(const typename C::Block* blocks, int r) {
        F32x8 s[groups / 8], m[groups / 8];
        C::scales(blocks, s, m);
        put_in_steps<P>(scale[r], s);
        if (C::mins) put_in_steps<P>(min[r], m);
        LLAMERO_UNROLL
        for (int i = 0; i < 4; i += 2) put_quants<P>(q[r] + 64 * i, C::quants(blocks, i), C::quants(blocks, i + 1));
    }

    // The first `count` of R rows at p, stretch `at`.
    LLAMERO_INLINE void unpack_rows(const Matrix& w, const uint8_t* p, int64_t count, int64_t at) {
        p += at / 256 * stretch_bytes<C>;
        for (int r = 0; r < R; ++r, p += w.row_bytes) {
            if (r >= count) continue;  // left as it was: nobody asks for the result
            for (uintptr_t line = 0; line < stretch_bytes<C>; line += 64) prefetch(p, R * w.row_bytes + line);
            with_stretch<C>(p, w.k - at, [&](const typename C::Block* blocks) { unpack(blocks, r); });
        }
    }

    static LLAMERO_INLINE __m512i start(const Block& x, int step) {
        if (C::offset == 0) return _mm512_setzero_si512();
        const __m512i full = _mm512_load_si512(C::group == 32 ? x.start[step] : x.start16[step]);  // for an offset of 128
        return _mm512_srai_epi32(full, offset_shift<C>);
    }

    LLAMERO_INLINE void add_step(const Block& x, int step, Sums& sums) const {
        __m512i d[R];
        const __m512i first = start(x, step);
        LLAMERO_UNROLL
        for (int r = 0; r < R; ++r) d[r] = first;
        LLAMERO_UNROLL
        for (int i = 0; i < pieces; ++i) {
            const __m512i a = _mm512_load_si512(x.q[step * pieces + i]);
            LLAMERO_UNROLL
            for (int r = 0; r < R; ++r) {
                const __m512i w = repeat_bytes<P>(q[r] + (step * pieces + i) * Block::bytes);
                __asm__("vpdpbusd %2, %1, %0" : "+v"(d[r]) : "v"(w), "v"(a));
            }
        }
        const Floats dx = load_floats(x.scale[step * C::group / 32]);
        const Floats total = load_floats(C::group == 32 ? x.total[step] : x.total16[step]);
        LLAMERO_UNROLL
        for (int r = 0; r < R; ++r) {
            const int at = step * Block::row_lanes;
            sums[r] = multiply_add(_mm512_cvtepi32_ps(d[r]) * dx, repeat_floats<P>(scale[r] + at), sums[r]);
            if (C::mins) sums[r] = subtract_product(sums[r], total, repeat_floats<P>(min[r] + at));
        }
    }

    // Apart from unpacking, so that all sums stay in registers.
    LLAMERO_ALONE void add_stretch(const Block& x, Sums& sums) const {
        Sums now;
        std::memcpy(&now, &sums, sizeof now);
        for (int step = 0; step < steps; ++step) add_step(x, step, now);
        std::memcpy(&sums, &now, sizeof now);
    }

    static void put(const Sums& sums, float* y, int64_t n, int64_t ldy, int64_t count) {
        for (int r = 0; r < R && r < count; ++r) put_spread<P>(sums[r], y + r, n, ldy);
    }
};

template <class C>
void spread_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                    int64_t end, void*) {
    with_width(n, [&](auto width) { Spread<C, width, 8>::run(w, prepared, n, y, ldy, begin, end); });
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
