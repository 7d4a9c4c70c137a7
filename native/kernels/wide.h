// Many rows of activations and weights in superblocks of 256: a multiplication of any kind takes a dot product's turn, so
// what a group needs of them is what counts. Activations share a scale across 128; llama.cpp gives 256 one, and loses
// more. Sums of a stretch stay in units of the scale at hand; where the scales of groups fold into the weights
// (fold.h), sums stay integers for 128. Minima meet the sums of activations as 16-bit integers.
#pragma once
#include "codec.h"
#include "fold.h"
#include "int8.h"
#include "panels.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int wide_span = 128, wide_spans = 256 / wide_span;  // activations that share a scale

// 256 prepared activations.
struct alignas(64) WideBlock {
    static constexpr int64_t values = 256;
    int8_t q[256];
    float scale[wide_spans];     // of each span
    float ratio[wide_spans - 1];  // of the scale of a span to that of the next
    int32_t starts[wide_spans];  // -128 times the sum of a span's bytes: where products with weights + 128 start
    float unit;                  // what one of the sums stands for
    int16_t sums32[8];           // of 32 activations each
    alignas(64) int32_t start32[8];
    int16_t sums16[16];
    int32_t start16[16];

    // Superblocks have whole stretches.
    LLAMERO_INLINE void prepare(const float* x, int64_t) {
        alignas(32) float scales[8], inverse[8];
        group_scales(span_peaks(group_peaks(x)), scales, inverse);
        const __m512i ones = _mm512_set1_epi8(1);
        __m512i fours[4];
        LLAMERO_UNROLL
        for (int i = 0; i < 4; ++i) {
            const __m512i bytes = round_64(x + 64 * i, inverse + 2 * i);
            _mm512_store_si512(q + 64 * i, bytes);
            fours[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, bytes);
        }
        put_scales(scales);
        put_sums(sums_of_16(fours), scales);
    }

private:
    // Peaks of whole spans from those of 32 values each. None is below the largest by more than 2^40, so that no ratio
    // of scales overflows.
    static LLAMERO_INLINE __m256i span_peaks(__m256i peaks) {
        peaks = _mm256_max_epi32(peaks, _mm256_shuffle_epi32(peaks, 0xb1));
        if (wide_span == 128) peaks = _mm256_max_epi32(peaks, _mm256_shuffle_epi32(peaks, 0x4e));
        __m256i largest = _mm256_max_epi32(peaks, _mm256_shuffle_epi32(peaks, 0x4e));
        largest = _mm256_max_epi32(largest, _mm256_permute4x64_epi64(largest, 0x4e));
        return _mm256_max_epi32(peaks, _mm256_sub_epi32(largest, _mm256_set1_epi32(40 << 23)));
    }

    // A scale of zero, of zeros, is taken for the one before.
    LLAMERO_INLINE void put_scales(const float* scales) {
        float largest = 0.0f;
        for (int s = 0; s < wide_spans; ++s) {
            const float before = s > 0 ? scale[s - 1] : 0.0f, own = scales[s * wide_span / 32];
            scale[s] = own == 0.0f ? before : own;
            if (s > 0) ratio[s - 1] = scale[s] == 0.0f ? 1.0f : before / scale[s];
            if (own > largest) largest = own;
        }
        unit = largest / 8;
    }

    LLAMERO_INLINE void put_sums(__m512i sums, const float* scales) {
        // In eighths of the largest scale: 32 bytes come to at most 32,512 of them.
        const __m512 inverse = _mm512_set1_ps(unit == 0.0f ? 0.0f : 1.0f / unit);
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        const __m512 units = _mm512_mul_ps(
            _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_load_ps(scales))), inverse);
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), units));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums16), _mm512_cvtepi32_epi16(whole));
        const __m512i wholes = _mm512_add_epi32(whole, _mm512_srli_epi64(whole, 32));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(sums32), _mm512_cvtepi64_epi16(wholes));

        const __m512i zero = _mm512_setzero_si512();
        const __m512i all = _mm512_sub_epi32(zero, _mm512_slli_epi32(sums, 7));
        _mm512_storeu_si512(start16, all);
        store(start32, _mm512_cvtepi64_epi32(_mm512_add_epi32(all, _mm512_srli_epi64(all, 32))));
        for (int s = 0; s < wide_spans; ++s) {
            starts[s] = 0;
            for (int g = 0; g < wide_span / 32; ++g) starts[s] += start32[s * wide_span / 32 + g];
        }
    }
};
static_assert(sizeof(WideBlock) == 448);

// 256 values of `width` weight rows, unpacked.
template <class C>
struct WidePanel {
    static constexpr int width = panel_width, groups = 256 / C::group, scales = Fold<C>::folds ? 1 : groups;
    static constexpr int64_t bytes = stretch_bytes<C>, turns = Fold<C>::folds ? 8 : groups;
    alignas(64) uint8_t q[64][width][4];
    alignas(64) float scale[scales][width];
    alignas(64) uint8_t min[C::mins ? groups / 2 : 1][width][4];  // two neighbouring groups' minima, 16 bits each
    alignas(64) float min_scale[width];
    // Rows on their way in, before they are laid side by side.
    alignas(64) uint8_t row_q[lanes][256];
    alignas(64) float row_scale[lanes][groups];
    alignas(64) uint16_t row_min[lanes][16];

    // Values [at, at + 256) of weight rows [j, end); rows from `end` on become zeros.
    void unpack(const Matrix& w, int64_t j, int64_t end, int64_t at) {
        for (int c = 0; c < width; c += lanes) {
            for (int l = 0; l < lanes; ++l) {
                const uint8_t* p = w.data + (j + c + l) * w.row_bytes + at / 256 * stretch_bytes<C>;
                if (j + c + l < end) unpack_row(reinterpret_cast<const typename C::Block*>(p), l, c + l);
                else clear_row(l, c + l);
            }
            interleave(row_q, sizeof row_q[0], 64, q[0][c], sizeof q[0]);
            if constexpr (!Fold<C>::folds)
                interleave(row_scale, sizeof row_scale[0], groups, &scale[0][c], sizeof scale[0]);
            if constexpr (C::mins) interleave(row_min, sizeof row_min[0], groups / 2, min[0][c], sizeof min[0]);
        }
    }

    LLAMERO_INLINE void unpack_row(const typename C::Block* block, int lane, int column) {
        if constexpr (Fold<C>::folds) {
            const Fold<C> fold(block);
            scale[0][column] = fold.scale();
            LLAMERO_UNROLL
            for (int quarter = 0; quarter < 4; ++quarter) store_quants(row_q[lane] + 64 * quarter, fold.quants(quarter));
        } else {
            float unused[groups];
            stored_scales<C>(block, row_scale[lane], unused);
            LLAMERO_UNROLL
            for (int quarter = 0; quarter < 4; ++quarter)
                store_quants(row_q[lane] + 64 * quarter, offset_quants<C>(block, quarter, panel_offset<C>));
        }
        if constexpr (C::mins) {
            store(row_min[lane], _mm256_cvtepu8_epi16((__m128i)C::minima(block)));
            min_scale[column] = half_to_float(block->dmin);
        }
    }

    template <int Rows>
    LLAMERO_INLINE void tile(const WideBlock* first, float* held, Ahead& ahead) const;

    void clear_row(int lane, int column) {
        std::memset(row_q[lane], 0, sizeof row_q[lane]);
        std::memset(row_scale[lane], 0, sizeof row_scale[lane]);
        std::memset(row_min[lane], 0, sizeof row_min[lane]);
        scale[0][column] = min_scale[column] = 0.0f;
    }
};

// One tile: the products of Rows rows of 256 activations with a panel.
template <class C, int Rows>
struct WideTile {
    static constexpr int groups = 256 / C::group;
    // Bytes of a block of activations: what is rarely needed lies last.
    static constexpr uintptr_t needed = Fold<C>::folds && !C::mins            ? offsetof(WideBlock, start32)
                                        : C::group == 16 && !Fold<C>::folds ? sizeof(WideBlock)
                                        : C::group == 32 && C::mins         ? offsetof(WideBlock, start32)
                                                                            : offsetof(WideBlock, start16);
    using Sums = Floats[Rows][tile_columns];
    using Integers = __m512i[Rows][tile_columns];

    // `steps` times four neighbours, from `at` on.
    template <int Steps>
    static LLAMERO_INLINE void multiply(const WidePanel<C>& panel, const WideBlock* const (&x)[Rows], int at,
                                        Integers& d) {
        LLAMERO_UNROLL
        for (int step = 0; step < Steps; ++step) {
            __m512i w[tile_columns];
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) {
                __m512i column = _mm512_load_si512(panel.q[at / 4 + step][c * lanes]);
                keep_in_register(column);
                w[c] = column;
            }
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const __m512i four = _mm512_set1_epi32(load<int32_t>(x[r]->q + at + 4 * step));
                LLAMERO_UNROLL
                for (int c = 0; c < tile_columns; ++c)
                    __asm__("vpdpbusd %2, %1, %0" : "+v"(d[r][c]) : "v"(w[c]), "v"(four));
            }
        }
    }

    template <class Start>
    static LLAMERO_INLINE void start(Integers& d, const Start& at) {
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) d[r][c] = _mm512_set1_epi32(at(r));
        }
    }

    static LLAMERO_INLINE void add_group(const WidePanel<C>& panel, const WideBlock* const (&x)[Rows], int g,
                                         Sums& sums) {
        Integers d;
        start(d, [&](int r) { return panel_offset<C> == 0 ? 0 : C::group == 32 ? x[r]->start32[g] : x[r]->start16[g]; });
        multiply<C::group / 4>(panel, x, g * C::group, d);
        LLAMERO_UNROLL
        for (int c = 0; c < tile_columns; ++c) {
            const Floats scale = load_floats(&panel.scale[g][c * lanes]);
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) sums[r][c] = multiply_add(_mm512_cvtepi32_ps(d[r][c]), scale, sums[r][c]);
        }
    }

    // A span whose weights need no scales of their own.
    static LLAMERO_INLINE void add_span(const WidePanel<C>& panel, const WideBlock* const (&x)[Rows], int span,
                                        Sums& sums, Ahead& ahead) {
        Integers d;
        start(d, [&](int r) { return Fold<C>::offset == 0 ? 0 : x[r]->starts[span]; });
        for (int at = span * wide_span; at < (span + 1) * wide_span; at += 32) {
            ahead.fetch_some();
            multiply<8>(panel, x, at, d);
        }
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const Floats scale = broadcast(&x[r]->scale[span]);
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) sums[r][c] = multiply_add(_mm512_cvtepi32_ps(d[r][c]), scale, sums[r][c]);
        }
    }

    static LLAMERO_INLINE void add_groups(const WidePanel<C>& panel, const WideBlock* const (&x)[Rows], int span,
                                          Sums& sums, Ahead& ahead) {
        if (span > 0) {
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                LLAMERO_UNROLL
                for (int c = 0; c < tile_columns; ++c) sums[r][c] = sums[r][c] * broadcast(&x[r]->ratio[span - 1]);
            }
        }
        for (int g = span * groups / wide_spans; g < (span + 1) * groups / wide_spans; ++g) {
            ahead.fetch_some();
            add_group(panel, x, g, sums);
        }
    }

    static LLAMERO_INLINE void take_minima(const WidePanel<C>& panel, const WideBlock* const (&x)[Rows], Sums& sums) {
        Integers d;
        start(d, [](int) { return 0; });
        LLAMERO_UNROLL
        for (int pair = 0; pair < groups / 2; ++pair) {
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                const int16_t* two = (C::group == 32 ? x[r]->sums32 : x[r]->sums16) + 2 * pair;
                const __m512i sum = _mm512_set1_epi32(load<int32_t>(two));
                LLAMERO_UNROLL
                for (int c = 0; c < tile_columns; ++c) {
                    __m512i w = _mm512_load_si512(panel.min[pair][c * lanes]);
                    __asm__("vpdpwssd %2, %1, %0" : "+v"(d[r][c]) : "v"(w), "v"(sum));
                }
            }
        }
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            const Floats unit = broadcast(&x[r]->unit);
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c)
                sums[r][c] = subtract_product(sums[r][c], _mm512_cvtepi32_ps(d[r][c]) * unit,
                                              load_floats(panel.min_scale + c * lanes));
        }
    }

    // As Tile's in tile.h.
    static LLAMERO_ALONE void run(const WidePanel<C>& panel, const WideBlock* first, float* held, Ahead& ahead) {
        const WideBlock* x[Rows];
        Sums sums;
        begin_tile(first, x, sums);
        fetch_rows<Rows>(first, needed);
        for (int span = 0; span < wide_spans; ++span)
            if constexpr (Fold<C>::folds) add_span(panel, x, span, sums, ahead);
            else add_groups(panel, x, span, sums, ahead);
        Sums all;
        load_sums(held, all);
        LLAMERO_UNROLL
        for (int r = 0; r < Rows; ++r) {
            LLAMERO_UNROLL
            for (int c = 0; c < tile_columns; ++c) {
                const Floats scale = Fold<C>::folds ? load_floats(&panel.scale[0][c * lanes])
                                                    : broadcast(&x[r]->scale[wide_spans - 1]);
                all[r][c] = multiply_add(sums[r][c], scale, all[r][c]);
            }
        }
        if constexpr (C::mins) take_minima(panel, x, all);
        store_sums(all, held);
    }
};

template <class C>
template <int Rows>
LLAMERO_INLINE void WidePanel<C>::tile(const WideBlock* first, float* held, Ahead& ahead) const {
    WideTile<C, Rows>::run(*this, first, held, ahead);
}

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class C>
void wide_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                  void* scratch) {
    panel_product<WidePanel<C>, WideBlock, tile_rows>(w, prepared, n, y, ldy, begin, end, scratch);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
