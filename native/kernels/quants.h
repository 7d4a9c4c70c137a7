// A quarter of a stretch: 64 quants as unsigned bytes, however wide the level's registers are.
//
//     two(a, b)                          32 bytes from a, 32 from b
//     field(q, right, mask)              of every byte, a field: moved right (left where negative), then masked
//     fields(p, first, second, mask)     the same 32 bytes twice, with a field of its own for either half
//     nibbles(a, b)                      16 bytes from a: 16 low nibbles, 16 high ones; then 16 bytes from b
//     bits(a, b, value)                  `value` where a bit of a, then of b, is set; otherwise 0
//     lookup(table, q), merge(q, r), plus(q, amount)
//     products<Signed>(q, x)             times 64 activations, four neighbours to a lane, as floats (Wide)
//     add_scaled<Group>(sums, products, scales)   sums plus products times the scale of each group
#pragma once
#include "vec.h"

#if defined(__AVX512F__)
#include "quants_avx512.h"
#else
#include "quants_pair.h"
#endif
