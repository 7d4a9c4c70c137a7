// Quantising a block of 256 activations at once: the peaks and sums of its groups come from transposing reductions.
// See int8.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Lane L * 4 + i of the result joins four lanes of v[i], those of its 128-bit part L.
template <class Join>
LLAMERO_INLINE __m512i join_fours(const __m512i* v, const Join& join) {
    const __m512i a = join(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    const __m512i b = join(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return join(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// The bits of the largest magnitude of each 32 values; not-a-number counts as larger than infinity.
LLAMERO_INLINE __m256i group_peaks(const float* x) {
    const auto larger = [](__m512i a, __m512i b) { return _mm512_max_epi32(a, b); };
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i sizes[8];
    LLAMERO_UNROLL
    for (int g = 0; g < 8; ++g)
        sizes[g] = larger(_mm512_and_si512(_mm512_loadu_si512(x + 32 * g), no_sign),
                          _mm512_and_si512(_mm512_loadu_si512(x + 32 * g + 16), no_sign));
    const __m512i low = join_fours(sizes, larger), high = join_fours(sizes + 4, larger);
    const __m512i halves = larger(_mm512_shuffle_i64x2(low, high, 0x44), _mm512_shuffle_i64x2(low, high, 0xee));
    const __m512i all = larger(halves, _mm512_shuffle_i64x2(halves, halves, 0xb1));
    return _mm512_castsi512_si256(_mm512_shuffle_i64x2(all, all, 0x08));
}

// 64 values times the inverse scales of their two groups, as bytes.
LLAMERO_INLINE __m512i round_64(const float* x, const float* inverse) {
    __m512i v[4];
    LLAMERO_UNROLL
    for (int i = 0; i < 4; ++i)
        v[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), _mm512_set1_ps(inverse[i / 2])));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(
        order, _mm512_packs_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3])));
}

// Scales of eight groups from their peaks, and what to multiply their values with.
LLAMERO_INLINE void group_scales(__m256i peaks, float* scale, float* inverse) {
    const __mmask8 finite = _mm256_cmplt_epi32_mask(peaks, _mm256_set1_epi32(0x7f800000));
    const __mmask8 usable = finite & _mm256_cmpge_epi32_mask(peaks, _mm256_set1_epi32(0x04000000));
    const __m256 largest = _mm256_castsi256_ps(peaks), most = _mm256_set1_ps(127.0f);
    const __m256 unusable = _mm256_maskz_mov_ps(__mmask8(~finite), _mm256_set1_ps(bits_to_float(0x7fc00000)));
    _mm256_storeu_ps(scale, _mm256_mask_div_ps(unusable, usable, largest, most));
    _mm256_storeu_ps(inverse, _mm256_maskz_div_ps(usable, most, largest));
}

// The sums of 16 neighbours from those of four each.
LLAMERO_INLINE __m512i sums_of_16(const __m512i (&fours)[4]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(
        order, join_fours(fours, [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }));
}

LLAMERO_INLINE void quantise_256(const float* x, Int8Block& out) {
    alignas(32) float inverse[8];
    group_scales(group_peaks(x), out.scale, inverse);
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i fours[4];
    LLAMERO_UNROLL
    for (int i = 0; i < 4; ++i) {
        // What is not finite times zero is not a number, and becomes some byte; its scale tells.
        const __m512i bytes = round_64(x + 64 * i, inverse + 2 * i);
        _mm512_store_si512(out.q + 64 * i, bytes);
        fours[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, bytes);
    }
    const __m512i sums16 = sums_of_16(fours);
    const __m512i pairs = _mm512_add_epi32(sums16, _mm512_srli_epi64(sums16, 32));
    const __m256i sums = _mm512_cvtepi64_epi32(pairs);
    _mm256_storeu_ps(out.total, _mm256_mul_ps(_mm256_loadu_ps(out.scale), _mm256_cvtepi32_ps(sums)));
    store(out.start, _mm256_sub_epi32(_mm256_set1_epi32(biased_zero), _mm256_slli_epi32(sums, 7)));
    _mm512_storeu_si512(out.starts16, _mm512_sub_epi32(_mm512_set1_epi32(biased_zero), _mm512_slli_epi32(sums16, 7)));
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
