// A handful of rows of activations side by side, as in spread.h, with weights that are floats of some width.
#pragma once
#include "floats.h"
#include "spread.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Rows of activations, P to a register: 64 / P bytes of each. Register i holds their elements from i * Rows::each on.
template <class Rows, int P>
struct FloatSpreadRows {
    using Element = typename Rows::Element;
    static constexpr int each = 64 / P / int(sizeof(Element));
    static int64_t registers(int64_t k) { return (Rows::stride(k) + each - 1) / each; }

    static void prepare(const float* x, int64_t n, int64_t k, void* out, Element* row) {
        std::memset(out, 0, size_t(registers(k)) * 64);
        for (int64_t i = 0; i < n; ++i) {
            Rows::prepare(x + i * k, k, row, 0);
            uint8_t* to = static_cast<uint8_t*>(out) + i * (64 / P);
            for (int64_t at = 0; at < Rows::stride(k); at += each, to += 64) std::memcpy(to, row + at, 64 / P);
        }
    }
};

template <class Rows>
size_t float_spread_bytes(int64_t n, int64_t k) {  // and one row on its way in
    return with_width(n, [&](auto width) { return size_t(FloatSpreadRows<Rows, width>::registers(k)) * 64; }) +
           size_t(Rows::bytes(k));
}

template <class Rows>
void float_spread_prepare(const float* x, int64_t n, int64_t k, void* out) {
    with_width(n, [&](auto width) {
        using Spread = FloatSpreadRows<Rows, width>;
        void* row = static_cast<uint8_t*>(out) + Spread::registers(k) * 64;
        Spread::prepare(x, n, k, out, static_cast<typename Rows::Element*>(row));
    });
}

// How it multiplies: floats, which the weights are made first as for a tile,
template <class W>
struct SpreadFloats {
    using Tile = OneFloat;
    using Weight = W;
    static constexpr bool as_stored = false;
    static LLAMERO_INLINE Floats add(Floats sum, __m512i w, __m512i x) {
        return multiply_add(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
    }
};

// or pairs of bfloats, as they are stored.
struct SpreadPairs {
    using Tile = TwoBFloats;
    using Weight = BF16;
    static constexpr bool as_stored = true;
    static LLAMERO_INLINE Floats add(Floats sum, __m512i w, __m512i x) { return add_pairs(sum, w, x); }
};

// R weight rows meet up to P rows of activations.
template <class M, int P, int R>
class FloatSpread {
public:
    static LLAMERO_ALONE void run(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy,
                                  int64_t begin, int64_t end) {
        FloatSpread s;
        for (int64_t j = begin; j < end; j += R) {
            const uint8_t* x = static_cast<const uint8_t*>(prepared);
            Sums sums;
            LLAMERO_UNROLL
            for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = zero_floats();
            for (int64_t at = 0; at < w.k; at += values, x += values / each * 64) {
                s.find_rows(w, j, end, at);
                s.add_values(x, w.k - at < values ? w.k - at : values, sums);
            }
            for (int r = 0; r < R && j + r < end; ++r) put_spread<P>(sums[r][0] + sums[r][1], y + j + r, n, ldy);
        }
    }

private:
    using Element = typename M::Tile::Element;
    using Stored = typename M::Weight::Value;
    using Sums = Floats[R][2];  // two that do not wait for each other
    static constexpr int each = FloatSpreadRows<typename M::Tile::Rows, P>::each;
    static constexpr int64_t values = 256;
    const Element* row[R];
    alignas(64) Element unpacked[R][values];

    // Values [at, at + 256) of the weight rows: where they are, or unpacked and filled up with zeros.
    LLAMERO_INLINE void find_rows(const Matrix& w, int64_t j, int64_t end, int64_t at) {
        const int64_t count = w.k - at < values ? w.k - at : values;
        for (int r = 0; r < R; ++r) {
            const int64_t which = j + r < end ? j + r : end - 1;
            const uint8_t* p = w.data + which * w.row_bytes + at * int64_t(sizeof(Stored));
            for (int64_t line = 0; line < count * int64_t(sizeof(Stored)); line += 64) prefetch(p, R * w.row_bytes + line);
            if (M::as_stored && count == values) {
                row[r] = reinterpret_cast<const Element*>(p);
                continue;
            }
            M::Tile::template unpack<typename M::Weight>(p, count, unpacked[r]);
            if (count < values) std::memset(&unpacked[r][count], 0, size_t(values - count) * sizeof(Element));
            row[r] = unpacked[r];
        }
    }

    LLAMERO_ALONE void add_values(const uint8_t* x, int64_t count, Sums& sums) const {
        Sums now;
        std::memcpy(&now, &sums, sizeof now);
        const Element* from[R];
        LLAMERO_UNROLL
        for (int r = 0; r < R; ++r) from[r] = row[r];
        for (int64_t i = 0; i * each < count; i += 2) {
            LLAMERO_UNROLL
            for (int chain = 0; chain < 2; ++chain) {
                const __m512i a = _mm512_load_si512(x + (i + chain) * 64);
                LLAMERO_UNROLL
                for (int r = 0; r < R; ++r) {
                    const uint8_t* p = reinterpret_cast<const uint8_t*>(from[r] + (i + chain) * each);
                    now[r][chain] = M::add(now[r][chain], repeat_bytes<P>(p), a);
                }
            }
        }
        std::memcpy(&sums, &now, sizeof now);
    }
};

template <class M>
void float_spread_product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin,
                          int64_t end, void*) {
    with_width(n, [&](auto width) { FloatSpread<M, width, 8>::run(w, prepared, n, y, ldy, begin, end); });
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
