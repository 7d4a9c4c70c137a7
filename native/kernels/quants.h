// A quarter of a stretch: 64 quants as unsigned bytes, however wide the level's registers are.
//
//     two(a, b)                          32 bytes from a, 32 from b
//     field(q, right, mask)              of every byte, a field: moved right (left where negative), then masked
//     fields(p, first, second, mask)     the same 32 bytes twice, with a field of its own for either half
//     nibbles(a, b)                      16 bytes from a: 16 low nibbles, 16 high ones; then 16 bytes from b
//     masked(p, first, second)           the same 32 bytes twice, with a mask of its own for either half
//     masked_nibbles(a, b)               as nibbles, but the high ones where the level `raises`
//     plus_bits(q, a, b, value)          plus `value` where a bit of a, then of b, is set
//     lookup(table, q), merge(q, r), plus(q, amount)
//     Products256<Group, Raised>         the products of four quarters with activations, and their scaled sums
#pragma once
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Shifts and shuffles are what the dot path of a wide level has too few units for. There, fields of a byte may stay where
// they are, so many times too large, and the scales make up for it (`raises`). How they lie in a quarter:
enum class Raised {
    No,
    Nibbles16,  // 16 low nibbles, then 16 high ones
    Nibbles32,  // 32 low, 32 high
    Pairs32,    // 32 fields of two bits, 32 of the next two; the next quarter has the upper ones
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero

#if defined(__AVX512F__)
#include "quants_avx512.h"
#else
#include "quants_pair.h"
#endif
