// One or two rows of activations and weights in groups of 16 with whole numbers for scales, where decoding takes longer
// than reading. Sums of four neighbours fit 16 bits and meet their scales as such; only the sums of a span of
// activations (wide.h) become floats.
#pragma once
#include "codec_q2_k.h"
#include "codec_q3_k.h"
#include "wide.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// A row of blocks one after another.
struct WideRow {
    static int64_t blocks(int64_t k) { return k / 256; }
    static int64_t bytes(int64_t k) { return blocks(k) * int64_t(sizeof(WideBlock)); }
    static const WideBlock* at(const void* prepared, int64_t row, int64_t k) {
        return static_cast<const WideBlock*>(prepared) + row * blocks(k);
    }
    static void prepare(const float* x, int64_t k, void* out, int64_t row) {
        WideBlock* to = static_cast<WideBlock*>(out) + row * blocks(k);
        for (int64_t at = 0; at < k; at += 256) to++->prepare(x + at, 256);
    }
};

// The same byte all over either half.
LLAMERO_INLINE __m512i two_bytes(uint8_t first, uint8_t second) {
    const uint64_t ones = 0x0101010101010101;
    const auto a = static_cast<int64_t>(ones * first), b = static_cast<int64_t>(ones * second);
    return _mm512_setr_epi64(a, a, a, a, b, b, b, b);
}

// 64 fields of two bits; the second 32 four times too large, as they lie.
LLAMERO_INLINE Quants pairs_of_bits(const uint8_t* q, int quarter) {
    const Quants both = _mm512_broadcast_i64x4(load<__m256i>(q + quarter / 2 * 32));
    return _mm512_and_si512(quarter % 2 ? _mm512_srli_epi64(both, 4) : both, two_bytes(3, 12));
}

// Bytes for sixteen groups: those of the first two of every four times four, to make up for the others' fields.
LLAMERO_INLINE __m128i levelled(__m128i bytes) {
    return _mm_sllv_epi16(bytes, _mm_setr_epi16(2, 0, 2, 0, 2, 0, 2, 0));
}

// For quarters 2 * pair and 2 * pair + 1, whose sums of four are packed to 16 bits, the scale of each: in the low
// byte, or in the high one (`Byte` 1), where its sign counts.
template <int Byte>
LLAMERO_INLINE __m512i scales_of_pair(__m128i scales, int pair) {
    constexpr int64_t each = 0x0001000100010001LL << 8 * Byte, none = 0x0080008000800080LL << 8 * (1 - Byte);
    const __m512i groups = _mm512_setr_epi64(0, 4 * each, each, 5 * each, 2 * each, 6 * each, 3 * each, 7 * each);
    const __m512i order = _mm512_add_epi8(groups, _mm512_set1_epi64(none + 8 * pair * each));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(scales), order);
}

LLAMERO_INLINE __m512 repeat_half(uint16_t half) { return _mm512_cvtph_ps(_mm256_set1_epi16(int16_t(half))); }

// A block: its quants, its scales, what is taken away for each sum of 16 activations (`low`); the floats that make
// weights of these, and what remains to be multiplied once the sums are complete (`unit`).
template <class C>
struct SmallScales;

template <>
struct SmallScales<Q2_K> {
    static constexpr float unit = 1.0f / 4, low_unit = 1.0f / 16;

    explicit LLAMERO_INLINE SmallScales(const BlockQ2_K* b) : block_(b), both_(load<__m128i>(b->scales)) {}
    LLAMERO_INLINE Quants quants(int quarter) const { return pairs_of_bits(block_->q, quarter); }
    LLAMERO_INLINE __m512i scales(int pair) const {
        return scales_of_pair<0>(levelled(_mm_and_si128(both_, _mm_set1_epi8(15))), pair);
    }
    LLAMERO_INLINE __m256i low() const { return _mm256_cvtepu8_epi16(_mm_and_si128(both_, _mm_set1_epi8(char(240)))); }
    LLAMERO_INLINE __m512 scale() const { return repeat_half(block_->d); }
    LLAMERO_INLINE __m512 low_scale() const { return repeat_half(block_->dmin); }

private:
    const BlockQ2_K* block_;
    __m128i both_;
};

template <>
struct SmallScales<Q3_K> {
    static constexpr float unit = 1.0f / 4 / 256, low_unit = Q3_K::offset;

    explicit LLAMERO_INLINE SmallScales(const BlockQ3_K* b) : block_(b), six_((__m128i)Q3_K::SixBits(b).all()) {}
    LLAMERO_INLINE Quants quants(int quarter) const {
        const Quants third = _mm512_broadcast_i64x4(load<__m256i>(block_->third));
        const Quants low = pairs_of_bits(block_->q, quarter);
        const uint8_t bit = uint8_t(1 << 2 * quarter);
        const __mmask64 set = _mm512_test_epi8_mask(third, two_bytes(bit, uint8_t(2 * bit)));
        return _mm512_mask_add_epi8(low, set, low, two_bytes(4, 16));
    }
    LLAMERO_INLINE __m512i scales(int pair) const {
        const __m128i middle = levelled(_mm_set1_epi8(32));
        return scales_of_pair<1>(_mm_sub_epi8(levelled(six_), middle), pair);
    }
    LLAMERO_INLINE __m256i low() const { return _mm256_cvtepi8_epi16(_mm_sub_epi8(six_, _mm_set1_epi8(32))); }
    LLAMERO_INLINE __m512 scale() const { return repeat_half(block_->d); }
    LLAMERO_INLINE __m512 low_scale() const { return scale(); }

private:
    const BlockQ3_K* block_;
    __m128i six_;  // bits of each scale
};

// The running sums of one output.
template <class C>
struct SmallSums {
    __m512 scaled = _mm512_setzero_ps();
    __m256 low = _mm256_setzero_ps();

    // The products of 256 weights.
    LLAMERO_INLINE void add(const SmallScales<C>& w, const WideBlock& x) {
        static_assert(wide_spans == 2, "a pair of quarters is a span");
        const __m512 first = to_floats(span_sums(w, x, 0)) * _mm512_set1_ps(x.scale[0]);
        const __m512 both = _mm512_fmadd_ps(to_floats(span_sums(w, x, 1)), _mm512_set1_ps(x.scale[1]), first);
        scaled = _mm512_fmadd_ps(both, w.scale(), scaled);
        const __m256 less = _mm256_cvtepi32_ps(_mm256_madd_epi16(w.low(), load<__m256i>(x.sums16)));
        low = _mm256_fmadd_ps(less * _mm256_set1_ps(x.unit), _mm512_castps512_ps256(w.low_scale()), low);
    }
    LLAMERO_INLINE float total() const {
        return sum(halves_sum(scaled)) * SmallScales<C>::unit - sum((F32x8)low) * SmallScales<C>::low_unit;
    }

private:
    static LLAMERO_INLINE __m512 to_floats(__m512i v) { return _mm512_cvtepi32_ps(v); }
    static LLAMERO_INLINE __m512i span_sums(const SmallScales<C>& w, const WideBlock& x, int pair) {
        const __m512i a = sums_of_four(w, x, 2 * pair), b = sums_of_four(w, x, 2 * pair + 1);
        return _mm512_madd_epi16(_mm512_packs_epi32(a, b), w.scales(pair));
    }
    static LLAMERO_INLINE __m512i sums_of_four(const SmallScales<C>& w, const WideBlock& x, int quarter) {
        return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.quants(quarter), _mm512_load_si512(x.q + 64 * quarter));
    }
};

// y[i * ldy + j] for N rows of activations and weight rows [begin, end).
template <class C, int N>
void small_rows(const Matrix& w, const void* prepared, float* y, int64_t ldy, int64_t begin, int64_t end) {
    const uint8_t* row = w.data + begin * w.row_bytes;
    for (int64_t j = begin; j < end; ++j, row += w.row_bytes) {
        SmallSums<C> sums[N];
        const typename C::Block* block = reinterpret_cast<const typename C::Block*>(row);
        for (int64_t s = 0; s < WideRow::blocks(w.k); ++s, ++block) {
            prefetch_stream(block, sizeof *block);
            const SmallScales<C> weights(block);
            LLAMERO_UNROLL
            for (int r = 0; r < N; ++r) sums[r].add(weights, WideRow::at(prepared, r, w.k)[s]);
        }
        for (int r = 0; r < N; ++r) y[r * ldy + j] = sums[r].total();
    }
}

// The same for one or two.
template <class C>
void small_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                   void*) {
    if (n == 1) small_rows<C, 1>(w, prepared, y, ldy, begin, end);
    else small_rows<C, 2>(w, prepared, y, ldy, begin, end);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
