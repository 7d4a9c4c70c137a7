// 64 quants in two vectors of 32, and their products with activations. See quants.h.
#pragma once

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

struct Quants {
    U8x32 first, second;
};
struct Wide {
    F32x8 first, second;
};

LLAMERO_INLINE Quants two(const void* first, const void* second) { return {load<U8x32>(first), load<U8x32>(second)}; }
LLAMERO_INLINE void store_quants(uint8_t* p, const Quants& q) {
    store(p, q.first);
    store(p + 32, q.second);
}
LLAMERO_INLINE Quants merge(const Quants& a, const Quants& b) { return {a.first | b.first, a.second | b.second}; }
LLAMERO_INLINE Quants plus(const Quants& q, uint8_t amount) { return {q.first + amount, q.second + amount}; }

// By pairs of bytes: what crosses over from the neighbour is not in the mask.
LLAMERO_INLINE U8x32 field(U8x32 q, int right, uint8_t mask) {
    const U16x16 pairs = (U16x16)q;
    return (U8x32)(right < 0 ? pairs << uint16_t(-right) : pairs >> uint16_t(right)) & mask;
}
LLAMERO_INLINE Quants field(const Quants& q, int right, uint8_t mask) {
    return {field(q.first, right, mask), field(q.second, right, mask)};
}
LLAMERO_INLINE Quants fields(const uint8_t* p, int first, int second, uint8_t mask) {
    const U8x32 both = load<U8x32>(p);
    return {field(both, first, mask), field(both, second, mask)};
}

LLAMERO_INLINE Quants nibbles(const uint8_t* first, const uint8_t* second) { return {nibbles(first), nibbles(second)}; }

LLAMERO_INLINE Quants plus_bits(const Quants& q, uint32_t first, uint32_t second, uint8_t value) {
    return {q.first + bits_to_bytes(first, value), q.second + bits_to_bytes(second, value)};
}

LLAMERO_INLINE Quants lookup(const uint8_t (&table)[16], const Quants& index) {
    return {lookup(table, index.first), lookup(table, index.second)};
}

template <bool Signed>
LLAMERO_INLINE F32x8 products(U8x32 w, const int8_t* x) {
    const I8x32 q = load<I8x32>(x);
    return to_float(Signed ? dot_signed(I32x8{}, (I8x32)w, q) : dot(I32x8{}, w, q));
}
LLAMERO_INLINE Quants masked(const uint8_t* p, uint8_t first, uint8_t second) {
    const U8x32 both = load<U8x32>(p);
    return {both & first, both & second};
}
LLAMERO_INLINE Quants masked_nibbles(const uint8_t* first, const uint8_t* second) { return nibbles(first, second); }

// The products of a stretch of 256 weights and activations get their scales as they come: registers are few.
constexpr bool raises = false;
template <int Group, Raised>
class Products256 {
public:
    // Scales of all groups, weights' times activations'.
    LLAMERO_INLINE void start(const F32x8 (&scales)[256 / Group / 8]) {
        store(scales_, scales);
        keep_in_memory(scales_);
    }
    template <bool Signed>
    LLAMERO_INLINE void multiply(int quarter, const Quants& w, const int8_t* x, Wide& sums) {
        const float* p = scales_ + quarter * 64 / Group;
        sums.first += products<Signed>(w.first, x) * (Group == 32 ? repeat(p) : spread(p));
        sums.second += products<Signed>(w.second, x + 32) * (Group == 32 ? repeat(p + 1) : spread(p + 2));
    }
    LLAMERO_INLINE void finish(Wide&) const {}

private:
    alignas(32) float scales_[256 / Group];
};

LLAMERO_INLINE Wide zero_wide() { return {F32x8{}, F32x8{}}; }
LLAMERO_INLINE Wide add(const Wide& a, const Wide& b) { return {a.first + b.first, a.second + b.second}; }
LLAMERO_INLINE F32x8 halves_sum(const Wide& v) { return v.first + v.second; }

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
