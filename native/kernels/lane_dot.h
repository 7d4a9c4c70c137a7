// Three or four rows of activations: too many for the dot path, which adds up the lanes of every product. Here each lane
// of a register keeps to 16 neighbours, four at a time, of weights and activations alike, so that 256 products need one
// vector of scales; weights are put in that order once for all rows.
#pragma once
#include "codec.h"
#include "int8.h"
#include "lanes.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int lane_rows = 4;  // there is always room for so many

// Registers of four neighbours to a lane, turned into registers of the first, second, third and fourth neighbours: lane
// 4 * l + i takes what part l (16 bytes) of register i held.
LLAMERO_INLINE void turn(__m512i (&v)[4]) {
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

// 256 activations, four bytes of each lane's 16 at a time.
struct alignas(64) LaneBlock {
    int8_t q[4][64];
    float scale[16];
    float total[16];    // the scale times the sum of the lane's bytes
    int32_t start[16];  // -128 times that sum: where products with weights + 128 start

    // As Int8Block's.
    LLAMERO_INLINE void prepare(const float* x, int64_t count) {
        Int8Block block;
        block.prepare(x, count);
        __m512i v[4];
        for (int i = 0; i < 4; ++i) v[i] = _mm512_load_si512(block.q + 64 * i);
        turn(v);
        for (int i = 0; i < 4; ++i) _mm512_store_si512(q[i], v[i]);
        for (int lane = 0; lane < 16; ++lane) {
            const int sixteen = lane % 4 * 4 + lane / 4;
            start[lane] = block.starts16[sixteen] - biased_zero;
            scale[lane] = block.scale[sixteen / 2];
            total[lane] = float(start[lane]) / -128.0f * scale[lane];
        }
    }
};

size_t lane_bytes(int64_t k) { return size_t(Int8Row::blocks(k) * lane_rows) * sizeof(LaneBlock); }

// Stretch by stretch; rows that are not there are zeros.
void lane_prepare(const float* x, int64_t n, int64_t k, void* out) {
    std::memset(out, 0, lane_bytes(k));
    LaneBlock* to = static_cast<LaneBlock*>(out);
    for (int64_t at = 0; at < k; at += 256, to += lane_rows)
        for (int64_t row = 0; row < n; ++row) to[row].prepare(x + row * k + at, k - at);
}

// 256 weights in the lanes' order.
template <class C>
struct LaneWeights {
    __m512i q[4];
    __m512 scale, min;

    LLAMERO_INLINE explicit LaneWeights(const typename C::Block* blocks) {
        F32x8 s[256 / C::group / 8], m[256 / C::group / 8];
        C::scales(blocks, s, m);
        scale = lowered<fields_of<C>>(in_lanes(s));
        if (C::mins) min = in_lanes(m);
        LLAMERO_UNROLL
        for (int i = 0; i < 4; ++i) q[i] = dot_quants<C>(blocks, i);
        turn(q);
    }
};

// Where the products of a lane start, for the offset of its weights.
template <class C>
LLAMERO_INLINE __m512i lane_start(const LaneBlock& x) {
    if (C::offset == 0) return _mm512_setzero_si512();
    return _mm512_srav_epi32(_mm512_load_si512(x.start), less_raised<fields_of<C>>(offset_shift<C>));
}

// Adds the products of 256 weights with those of every row of activations.
template <class C>
LLAMERO_INLINE void add_lanes(const LaneWeights<C>& w, const LaneBlock* x, Floats (&sums)[lane_rows]) {
    LLAMERO_UNROLL
    for (int r = 0; r < lane_rows; ++r) {
        __m512i d = lane_start<C>(x[r]);
        LLAMERO_UNROLL
        for (int i = 0; i < 4; ++i)
            __asm__("vpdpbusd %2, %1, %0" : "+v"(d) : "v"(w.q[i]), "m"(*reinterpret_cast<const __m512i*>(x[r].q[i])));
        sums[r] = multiply_add(_mm512_cvtepi32_ps(d) * load_floats(x[r].scale), w.scale, sums[r]);
        if (C::mins) sums[r] = subtract_product(sums[r], load_floats(x[r].total), w.min);
    }
}

// The sums of all lanes of each register.
LLAMERO_INLINE __m128 sum_lanes(const Floats (&v)[4]) {
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const __m512 c = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    const __m256 d = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
    return _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
}

constexpr int64_t rows_at_once = 8;  // of weights

// Adds the products of the weights [at, end) of row j; fetches those of the row that will take its place.
template <class C>
LLAMERO_INLINE void add_part(const Matrix& w, int64_t j, const LaneBlock* x, int64_t at, int64_t end,
                             Floats (&sums)[lane_rows]) {
    Floats now[lane_rows];
    std::memcpy(&now, &sums, sizeof now);
    const uint8_t* row = w.data + j * w.row_bytes + at / 256 * stretch_bytes<C>;
    x += at / 256 * lane_rows;
    for (; at < end; at += 256, row += stretch_bytes<C>, x += lane_rows) {
        prefetch_stream(row, stretch_bytes<C>, uintptr_t(rows_at_once * w.row_bytes));
        const auto weights = [](const typename C::Block* blocks) { return LaneWeights<C>(blocks); };
        add_lanes<C>(with_stretch<C>(row, w.k - at, weights), x, now);
    }
    std::memcpy(&sums, &now, sizeof now);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end): several of these meet a part of the
// activations while it is in the first-level cache.
template <class C>
void lane_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                  void*) {
    constexpr int64_t part = 2048;
    const LaneBlock* x = static_cast<const LaneBlock*>(prepared);
    for (int64_t j = begin; j < end; j += rows_at_once) {
        const int64_t rows = end - j < rows_at_once ? end - j : rows_at_once;
        Floats sums[rows_at_once][lane_rows] = {};
        for (int64_t at = 0; at < w.k; at += part)
            for (int64_t r = 0; r < rows; ++r)
                add_part<C>(w, j + r, x, at, w.k - at < part ? w.k : at + part, sums[r]);
        for (int64_t r = 0; r < rows; ++r) {
            alignas(16) float all[lane_rows];
            store(all, sum_lanes(sums[r]));
            for (int64_t i = 0; i < n; ++i) y[i * ldy + j + r] = all[i];
        }
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
