// A handful of rows of activations, 3 to 16: too many to be bound by memory alone, too few to pay for laying weight rows
// side by side. Here the activations lie side by side, P rows in a register with 64 / P neighbouring bytes of each, and
// the weights, unpacked row by row, are broadcast against them.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// How many rows share a register when there are n: each has lanes / P lanes of it.
constexpr int64_t spread_most = 16;

// 256 values of each of P rows. What is kept once for a row and group lies in all lanes of the row (scale), or in
// its first with zeros in the others (sums).
template <int P>
struct alignas(64) SpreadBlock {
    static constexpr int bytes = 64 / P, row_lanes = 16 / P;
    int8_t q[4 * P][64];
    float scale[8][16];
    float total[8][16];    // as in Int8Block
    int32_t start[8][16];  // likewise, without the bias
    float total16[16][16];
    int32_t start16[16][16];

    void put(int row, const Int8Block& x) {
        for (int i = 0; i < 4 * P; ++i) std::memcpy(q[i] + row * bytes, x.q + i * bytes, bytes);
        const int lane = row * row_lanes;
        for (int g = 0; g < 8; ++g) {
            for (int l = 0; l < row_lanes; ++l) scale[g][lane + l] = x.scale[g];
            total[g][lane] = x.total[g];
            start[g][lane] = x.start[g] - biased_zero;
        }
        for (int g = 0; g < 16; ++g) {
            start16[g][lane] = x.starts16[g] - biased_zero;
            total16[g][lane] = float(start16[g][lane]) / -128.0f * x.scale[g / 2];
        }
    }
};

// Calls f with the width of n rows as a constant.
template <class F>
LLAMERO_INLINE auto with_width(int64_t n, const F& f) {
    if (n <= 4) return f(std::integral_constant<int, 4>());
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
LLAMERO_INLINE __m512i repeat_bytes(const uint8_t* p) {
    if (P == 4) return _mm512_broadcast_i32x4(load<__m128i>(p));
    if (P == 8) return _mm512_set1_epi64(load<int64_t>(p));
    return _mm512_set1_epi32(load<int32_t>(p));
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
    static constexpr int groups = 256 / C::group, pieces = C::group * P / 64;  // registers that a group takes
    using Block = SpreadBlock<P>;
    using Sums = Floats[R];
    alignas(64) uint8_t q[R][256];
    float scale[R][groups], min[R][groups];

    LLAMERO_INLINE void unpack(const typename C::Block* blocks, int r) {
        stored_scales<C>(blocks, scale[r], min[r]);
        LLAMERO_UNROLL
        for (int quarter = 0; quarter < 4; ++quarter) store_quants(q[r] + 64 * quarter, C::quants(blocks, quarter));
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

    static LLAMERO_INLINE __m512i start(const Block& x, int g) {
        if (C::offset == 0) return _mm512_setzero_si512();
        const __m512i full = _mm512_load_si512(C::group == 32 ? x.start[g] : x.start16[g]);  // for an offset of 128
        constexpr int less = C::offset == 128 ? 0 : C::offset == 32 ? 2 : C::offset == 16 ? 3 : C::offset == 8 ? 4 : 5;
        static_assert(C::offset == 0 || C::offset << less == 128, "an offset is a power of two");
        return less ? _mm512_srai_epi32(full, less) : full;
    }

    LLAMERO_INLINE void add_group(const Block& x, int g, Sums& sums) const {
        __m512i d[R];
        const __m512i first = start(x, g);
        LLAMERO_UNROLL
        for (int r = 0; r < R; ++r) d[r] = first;
        LLAMERO_UNROLL
        for (int i = 0; i < pieces; ++i) {
            const __m512i a = _mm512_load_si512(x.q[g * pieces + i]);
            LLAMERO_UNROLL
            for (int r = 0; r < R; ++r) {
                const __m512i w = repeat_bytes<P>(q[r] + g * C::group + i * Block::bytes);
                __asm__("vpdpbusd %2, %1, %0" : "+v"(d[r]) : "v"(w), "v"(a));
            }
        }
        const Floats dx = load_floats(x.scale[g * C::group / 32]);
        const Floats total = load_floats(C::group == 32 ? x.total[g] : x.total16[g]);
        LLAMERO_UNROLL
        for (int r = 0; r < R; ++r) {
            sums[r] = multiply_add(_mm512_cvtepi32_ps(d[r]) * dx, broadcast(&scale[r][g]), sums[r]);
            if (C::mins) sums[r] = subtract_product(sums[r], total, broadcast(&min[r][g]));
        }
    }

    // Apart from unpacking, so that all sums stay in registers.
    LLAMERO_ALONE void add_stretch(const Block& x, Sums& sums) const {
        Sums now;
        std::memcpy(&now, &sums, sizeof now);
        for (int g = 0; g < groups; ++g) add_group(x, g, now);
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
