// Activations as signed bytes: each 32 values share a float scale, rounded to nearest even,
// largest magnitude 127. A row keeps its bytes, scales and the sums that weights with an offset or a minimum need.
#pragma once
#include "vec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// 256 prepared values, one after another in memory so that a kernel follows a single pointer.
struct alignas(64) Int8Block {
    static constexpr int64_t values = 256;
    int8_t q[256];
    float scale[8];        // of 32 values each
    int32_t start[8];      // -128 times the sum of the 32 bytes, biased: where products with weights + 128 start
    float total[8];        // scale times the sum of the 32 bytes
    int32_t starts16[16];  // the same of 16 bytes each

    // From the first 256 of `count` values, or as many as there are, then zeros. Values that are not finite make all that
    // share their scale not-a-number, so that they show in the result.
    void prepare(const float* x, int64_t count);
};
static_assert(sizeof(Int8Block) == 448);

// A row of k values, k a multiple of 32; the last block is filled up with zeros.
struct Int8Row {
    static int64_t blocks(int64_t k) { return (k + 255) / 256; }
    static int64_t bytes(int64_t k) { return blocks(k) * int64_t(sizeof(Int8Block)); }
    static const Int8Block* at(const void* prepared, int64_t row, int64_t k) {
        return static_cast<const Int8Block*>(prepared) + row * blocks(k);
    }
    static void prepare(const float* x, int64_t k, void* out, int64_t row);
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero

#if defined(__AVX512F__)
#include "int8_avx512.h"
#else
#include "int8_plain.h"
#endif

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

inline void Int8Block::prepare(const float* x, int64_t count) {
    if (count >= 256) return quantise_256(x, *this);
    float rest[256] = {};
    std::memcpy(rest, x, size_t(count) * sizeof(float));
    quantise_256(rest, *this);
}

inline void Int8Row::prepare(const float* x, int64_t k, void* out, int64_t row) {
    Int8Block* to = static_cast<Int8Block*>(out) + row * blocks(k);
    for (int64_t at = 0; at < k; at += 256) to++->prepare(x + at, k - at);
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
