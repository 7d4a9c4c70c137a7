// Products with weights that are floats of some width: the dot path and the tile path again, without scales. Weights
// become float32 exactly; where the processor multiplies pairs of bfloats faster, bfloat weights may stay as they are.
#pragma once
#include <type_traits>

#include "panels.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct F32 {
    using Value = float;
    static LLAMERO_INLINE Floats load(const Value* p) { return load_floats(p); }
    static LLAMERO_INLINE float one(Value v) { return v; }
};

struct F16 {
    using Value = uint16_t;
    static LLAMERO_INLINE Floats load(const Value* p) { return load_floats(p); }
    static LLAMERO_INLINE float one(Value v) { return half_to_float(v); }
};

struct BF16 {
    using Value = uint16_t;
    static LLAMERO_INLINE Floats load(const Value* p) { return load_bfloats(p); }
    static LLAMERO_INLINE float one(Value v) { return bfloat_to_float(v); }
};

template <class V>
LLAMERO_INLINE typename V::Value value_at(const uint8_t* row, int64_t i) {
    return ::llamero::LLAMERO_LEVEL::load<typename V::Value>(row + i * sizeof(typename V::Value));
}

template <class V>
void decode_floats(const uint8_t* row, float* out, int64_t k) {
    for (int64_t i = 0; i < k; ++i) out[i] = V::one(value_at<V>(row, i));
}

// Activations as floats: rows padded with zeros to a multiple of 32.
struct FloatRows {
    using Element = float;
    static int64_t stride(int64_t k) { return (k + 31) / 32 * 32; }
    static int64_t bytes(int64_t k) { return stride(k) * int64_t(sizeof(float)); }

    static void prepare(const float* x, int64_t k, void* out, int64_t row) {
        prepare(x, k, stride(k), static_cast<float*>(out) + row * stride(k));
    }
    static void prepare(const float* x, int64_t k, int64_t padded, float* out) {
        std::memcpy(out, x, k * sizeof(float));
        for (int64_t i = k; i < padded; ++i) out[i] = 0.0f;
    }
};

// Activations rounded to bfloats (to nearest even): rows padded with zeros to a multiple of 32.
struct BFloatRows {
    using Element = uint16_t;
    static int64_t stride(int64_t k) { return (k + 31) / 32 * 32; }
    static int64_t bytes(int64_t k) { return stride(k) * int64_t(sizeof(uint16_t)); }

    static LLAMERO_INLINE uint16_t round(float f) {
        const uint32_t bits = float_to_bits(f);
        if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);  // not a number stays so
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }

    static void prepare(const float* x, int64_t k, void* out, int64_t row) {
        prepare(x, k, stride(k), static_cast<uint16_t*>(out) + row * stride(k));
    }
    static void prepare(const float* x, int64_t k, int64_t padded, uint16_t* out) {
        for (int64_t i = 0; i < k; ++i) out[i] = round(x[i]);
        for (int64_t i = k; i < padded; ++i) out[i] = 0;
    }
};

// How the dot path multiplies a vector of weights: one float to a lane.
template <class W>
struct OneByOne {
    using Rows = FloatRows;
    using Value = typename W::Value;
    using Vector = Floats;
    static constexpr int values = lanes;
    static LLAMERO_INLINE Vector weights(const Value* p) { return W::load(p); }
    static LLAMERO_INLINE Floats add(Floats sum, Vector w, const float* x) {
        return multiply_add(w, load_floats(x), sum);
    }
};

#if defined(__AVX512F__)
// sum plus the products of two bfloats in each lane, where the processor has the instruction: not all of this level do.
LLAMERO_INLINE Floats add_pairs(Floats sum, __m512i w, __m512i x) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

// Two bfloats to a lane.
struct BFloatPairs {
    using Rows = BFloatRows;
    using Value = uint16_t;
    using Vector = __m512i;
    static constexpr int values = 2 * lanes;
    static LLAMERO_INLINE Vector weights(const Value* p) { return _mm512_loadu_si512(p); }
    static LLAMERO_INLINE Floats add(Floats sum, Vector w, const uint16_t* x) {
        return add_pairs(sum, w, _mm512_loadu_si512(x));
    }
};
#endif

// The dot path: one weight row with N rows of activations, `stride` apart.
template <class M, int N>
LLAMERO_INLINE void float_dot_row(const uint8_t* row, const typename M::Rows::Element* x, int64_t stride, int64_t k,
                                  float* y, int64_t ldy) {
    using Value = typename M::Value;
    constexpr int chains = N > 2 ? 2 : 4;  // sums that do not wait for each other
    constexpr int64_t step = chains * M::values;
    const Value* p = reinterpret_cast<const Value*>(row);
    Floats sums[N][chains];
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) {
        LLAMERO_UNROLL
        for (int c = 0; c < chains; ++c) sums[r][c] = zero_floats();
    }
    const auto add = [&](typename M::Vector weights, int64_t at, int chain) {
        LLAMERO_UNROLL
        for (int r = 0; r < N; ++r) sums[r][chain] = M::add(sums[r][chain], weights, x + r * stride + at);
    };
    int64_t at = 0;
    for (; at + step <= k; at += step) {
        prefetch_stream(p + at, step * sizeof(Value));
        LLAMERO_UNROLL
        for (int c = 0; c < chains; ++c) add(M::weights(p + at + c * M::values), at + c * M::values, c);
    }
    for (; at + M::values <= k; at += M::values) add(M::weights(p + at), at, 0);
    if (at < k) {
        Value tail[M::values] = {};
        std::memcpy(tail, p + at, (k - at) * sizeof(Value));
        add(M::weights(tail), at, 0);
    }
    LLAMERO_UNROLL
    for (int r = 0; r < N; ++r) {
        Floats all = sums[r][0];
        LLAMERO_UNROLL
        for (int c = 1; c < chains; ++c) all = all + sums[r][c];
        y[r * ldy] = sum_floats(all);
    }
}

// Up to this many rows of activations the dot path is the faster one.
constexpr int64_t float_dot_most = 4;

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class M>
void float_dot_rows(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                    int64_t end) {
    const auto* x = static_cast<const typename M::Rows::Element*>(prepared);
    const int64_t stride = M::Rows::stride(w.k);
    for (int64_t j = begin; j < end; ++j)
        in_tiles<4>(0, n, [&](int64_t i, auto rows) {
            float_dot_row<M, rows>(w.data + j * w.row_bytes, x + i * stride, stride, w.k, y + i * ldy + j, ldy);
        });
}

template <class W>
void float_dot_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                       int64_t end, void*) {
    float_dot_rows<OneByOne<W>>(w, prepared, n, y, ldy, begin, end);
}

#if defined(__AVX512F__)
void bfloat_dot_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                        int64_t end, void*) {
    float_dot_rows<BFloatPairs>(w, prepared, n, y, ldy, begin, end);
}
#endif

// A stretch of activations for the tile path: 128 lanes' worth.
template <class Rows, int Values>
struct alignas(64) FloatBlock {
    static constexpr int64_t values = Values;
    typename Rows::Element x[Values];

    void prepare(const float* from, int64_t count) { Rows::prepare(from, count, Values, x); }
};

// How a tile multiplies: one float of each weight row at a time.
struct OneFloat {
    static constexpr Form form = Form::FloatTile;
    using Rows = FloatRows;
    using Element = float;
    static constexpr int per_lane = 1;

    template <class V>
    static LLAMERO_INLINE void unpack(const uint8_t* p, int64_t count, float* out) {
        int64_t i = 0;
        for (; i + lanes <= count; i += lanes) {
            store_floats(out + i, V::load(reinterpret_cast<const typename V::Value*>(p) + i));
        }
        for (; i < count; ++i) out[i] = V::one(value_at<V>(p, i));
        for (; i % 4; ++i) out[i] = 0.0f;
    }
    static LLAMERO_INLINE Floats repeat(const float* x) { return broadcast(x); }
    static LLAMERO_INLINE Floats multiply(const uint8_t* w, Floats x, Floats sum) {
        return multiply_add(load_floats(reinterpret_cast<const float*>(w)), x, sum);
    }
};

#if defined(__AVX512F__)
// Two bfloats of each weight row at a time.
struct TwoBFloats {
    static constexpr Form form = Form::BFloatTile;
    using Rows = BFloatRows;
    using Element = uint16_t;
    static constexpr int per_lane = 2;

    template <class V>
    static LLAMERO_INLINE void unpack(const uint8_t* p, int64_t count, uint16_t* out) {
        std::memcpy(out, p, count * 2);
        for (int64_t i = count; i % 8; ++i) out[i] = 0;
    }
    static LLAMERO_INLINE __m512i repeat(const uint16_t* x) { return _mm512_set1_epi32(load<int32_t>(x)); }
    static LLAMERO_INLINE Floats multiply(const uint8_t* w, __m512i x, Floats sum) {
        return add_pairs(sum, _mm512_loadu_si512(w), x);
    }
};
#endif

constexpr int float_steps = 128;  // values of each lane in a stretch
template <class U>
using FloatTileBlock = FloatBlock<typename U::Rows, float_steps * U::per_lane>;

// A stretch of `width` weight rows of values V, unpacked for U.
template <class V, class U>
struct FloatPanel {
    static constexpr int width = panel_width, values = float_steps * U::per_lane;
    static constexpr int64_t bytes = values * sizeof(typename V::Value), turns = float_steps / 16;
    static constexpr bool as_stored = std::is_same_v<typename V::Value, typename U::Element>;
    alignas(64) uint8_t w[float_steps][width][4];
    alignas(64) typename U::Element rows[lanes][values];
    int64_t steps;  // with a value

    // As Panel's in tile.h.
    void unpack(const Matrix& m, int64_t j, int64_t end, int64_t at) {
        const int64_t count = m.k - at < values ? m.k - at : values;
        steps = (count + U::per_lane - 1) / U::per_lane;
        for (int c = 0; c < width; c += lanes) {
            const uint8_t* p = m.data + (j + c) * m.row_bytes + at * sizeof(typename V::Value);
            if (as_stored && count == values && j + c + lanes <= end) {
                interleave(p, m.row_bytes, steps, w[0][c], sizeof w[0]);
                continue;
            }
            for (int l = 0; l < lanes; ++l, p += m.row_bytes) {
                if (j + c + l < end) U::template unpack<V>(p, count, rows[l]);
                else std::memset(rows[l], 0, sizeof rows[l]);
            }
            interleave(rows, sizeof rows[0], steps, w[0][c], sizeof w[0]);
        }
    }

    template <int Rows>
    LLAMERO_ALONE void tile(const FloatTileBlock<U>* first, float* held, Ahead& ahead) const {
        Floats sums[Rows][tile_columns];
        load_sums(held, sums);
        for (int64_t s = 0; s < steps; ++s) {
            if (s % 16 == 0) ahead.fetch_some();
            LLAMERO_UNROLL
            for (int r = 0; r < Rows; ++r) {
                auto value = U::repeat(first[r].x + s * U::per_lane);
                keep_in_register(value);
                LLAMERO_UNROLL
                for (int c = 0; c < tile_columns; ++c) sums[r][c] = U::multiply(w[s][c * lanes], value, sums[r][c]);
            }
        }
        store_sums(sums, held);
    }
};

// y[i * ldy + j] for all n rows of activations and weight rows [begin, end).
template <class V, class U>
void float_tile_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                        int64_t end, void* scratch) {
    panel_product<FloatPanel<V, U>, FloatTileBlock<U>, float_tile_rows>(w, prepared, n, y, ldy, begin, end, scratch);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
