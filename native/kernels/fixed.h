// Many rows of activations and weights in half precision, where the processor multiplies pairs of 16-bit integers twice
// as fast as floats: both sides become integers of 14 bits that share float scales, 32 neighbouring weights one, 128
// activations one. That rounds a value to within its neighbours' largest / 16382, which loses less than rounding the
// activations to halves would.
#pragma once
#include "floats.h"
#include "panels.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int fixed_peak = 8191;  // 32 products of such numbers fit 32 bits

// 32 floats, `largest` in magnitude by its bits, as integers; returns their scale. What is not finite makes it NaN.
LLAMERO_INLINE float fix_group(__m512 a, __m512 b, uint32_t largest, int16_t* q) {
    const bool finite = largest < 0x7f800000, usable = finite && largest >= 0x04000000;  // below 1.5e-36 is zero
    const __m512 inverse = _mm512_set1_ps(usable ? fixed_peak / bits_to_float(largest) : 0.0f);
    const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), high = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    _mm512_store_si512(q, _mm512_packs_epi32(low, high));
    return usable ? bits_to_float(largest) / fixed_peak : finite ? 0.0f : bits_to_float(0x7fc00000);
}

// 128 values in groups of 32. Within a group they lie as packing leaves them, the same for weights and activations.
struct alignas(64) FixedBlock {
    static constexpr int64_t values = 128;
    int16_t q[4][32];
    float scale[4];  // of each group of weights; the first is that of all activations

    // From the first 128 of `count` activations, or as many as there are, then zeros.
    LLAMERO_INLINE void prepare(const float* x, int64_t count) {
        float rest[128] = {};
        if (count < 128) x = static_cast<const float*>(std::memcpy(rest, x, size_t(count) * sizeof(float)));
        __m512i sizes = _mm512_setzero_si512();
        LLAMERO_UNROLL
        for (int i = 0; i < 128; i += 16)
            sizes = _mm512_max_epu32(
                sizes, _mm512_and_si512(_mm512_loadu_si512(x + i), _mm512_set1_epi32(0x7fffffff)));
        const uint32_t largest = _mm512_reduce_max_epu32(sizes);
        LLAMERO_UNROLL
        for (int g = 0; g < 4; ++g)
            scale[g] = fix_group(_mm512_loadu_ps(x + 32 * g), _mm512_loadu_ps(x + 32 * g + 16), largest, q[g]);
    }
};

// 128 values of `width` weight rows, unpacked.
struct FixedPanel {
    static constexpr int width = panel_width;
    static constexpr int64_t bytes = 256, turns = 4;
    alignas(64) uint8_t q[64][width][4];
    alignas(64) float scale[4][width];
    FixedBlock rows[lanes];

    void unpack(const Matrix& w, int64_t j, int64_t end, int64_t at) {
        const int64_t count = w.k - at < 128 ? w.k - at : 128;
        for (int c = 0; c < width; c += lanes) {
            for (int l = 0; l < lanes; ++l) {
                const uint8_t* p = w.data + (j + c + l) * w.row_bytes + at * 2;
                if (j + c + l >= end) std::memset(&rows[l], 0, sizeof rows[l]);
                else unpack_row(p, count, rows[l]);
            }
            interleave(rows, sizeof rows[0], 64, q[0][c], sizeof q[0]);
            interleave(rows[0].scale, sizeof rows[0], 4, &scale[0][c], sizeof scale[0]);
        }
    }

    template <int Rows>
    LLAMERO_INLINE void tile(const FixedBlock* first, float* held, Ahead& ahead) const;

    static LLAMERO_INLINE void unpack_row(const uint8_t* p, int64_t count, FixedBlock& out) {
        uint16_t rest[128];
        if (count < 128) {
            std::memcpy(rest, p, size_t(count) * 2);
            std::memset(rest + count, 0, size_t(128 - count) * 2);
            p = reinterpret_cast<const uint8_t*>(rest);
        }
        LLAMERO_UNROLL
        for (int g = 0; g < 4; ++g) out.scale[g] = unpack_group(p + 64 * g, out.q[g]);
    }

    static LLAMERO_INLINE float unpack_group(const uint8_t* p, int16_t* q) {
        const __m512i halves = _mm512_loadu_si512(p);
        const __m256i low = _mm512_castsi512_si256(halves), high = _mm512_extracti64x4_epi64(halves, 1);
        const __m256i sizes = _mm256_max_epu16(twice(low), twice(high));
        const __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
        const __m128i least = _mm_minpos_epu16(_mm_xor_si128(eight, _mm_set1_epi16(-1)));  // of the complements
        const uint16_t largest = uint16_t(~_mm_cvtsi128_si32(least)) >> 1;
        return fix_group(_mm512_cvtph_ps(low), _mm512_cvtph_ps(high), float_to_bits(half_to_float(largest)), q);
    }

private:
    static LLAMERO_INLINE __m256i twice(__m256i halves) { return _mm256_add_epi16(halves, halves); }  // without signs
};

// One tile: Rows rows of 128 activations with a panel.
template <int Rows>
struct FixedTile {
    using Sums = Floats[Rows][tile_columns];

    static LLAMERO_INLINE void add_group(const FixedPanel& panel, const FixedBlock* const (&x)[Rows], int g, Sums& sums) {
        __m512i d[Rows][tile_columns];
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) d[r][c] = _mm512_setzero_si512();
        }
        LLAMERO_UNROLL
        for (int pair = 0; pair < 16; ++pair) {
            __m512i w[tile_columns];
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) {
                __m512i column = _mm512_load_si512(panel.q[16 * g + pair][c * lanes]);
                keep_in_register(column);
                w[c] = column;
            }
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const __m512i two = _mm512_set1_epi32(load<int32_t>(x[r]->q[g] + 2 * pair));
                LLAMERO_UNROLL
                for (int c = 0; c < tile_columns; ++c)
                    __asm__("vpdpwssd %2, %1, %0" : "+v"(d[r][c]) : "v"(w[c]), "v"(two));
            }
        }
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c) {
            const Floats scale = load_floats(&panel.scale[g][c * lanes]);
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) sums[r][c] = multiply_add(_mm512_cvtepi32_ps(d[r][c]), scale, sums[r][c]);
        }
    }

    // As Tile's in tile.h.
    static LLAMERO_ALONE void run(const FixedPanel& panel, const FixedBlock* first, float* held, Ahead& ahead) {
        const FixedBlock* x[Rows];
        Sums sums;
        begin_tile(first, x, sums);
        fetch_rows<Rows>(first, sizeof(FixedBlock));
        for (int g = 0; g < 4; ++g) {
            ahead.fetch_some();
            add_group(panel, x, g, sums);
        }
        Sums all;
        load_sums(held, all);
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c)
                all[r][c] = multiply_add(sums[r][c], broadcast(x[r]->scale), all[r][c]);
        }
        store_sums(all, held);
    }
};

template <int Rows>
LLAMERO_INLINE void FixedPanel::tile(const FixedBlock* first, float* held, Ahead& ahead) const {
    FixedTile<Rows>::run(*this, first, held, ahead);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
void fixed_tile_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                        int64_t end, void* scratch) {
    panel_product<FixedPanel, FixedBlock, tile_rows>(w, prepared, n, y, ldy, begin, end, scratch);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
