// Rows of keys and values as a cache keeps them: read a vector of floats, write a row.
#pragma once
#include <cmath>

#include "kernels.h"
#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t BLOCK = 32;        // values of a Q8_0 block
constexpr int64_t BLOCK_BYTES = 34;  // its scale in half precision, then its bytes

// W values of a row from `col` on, a multiple of W.
template <CacheKind K>
inline vf kept(const uint8_t* row, int64_t col) {
    if (K == CacheKind::F32) return load_as<vf>(row + 4 * col);
    if (K == CacheKind::F16) return from_half(reinterpret_cast<const uint16_t*>(row + 2 * col));
    const uint8_t* block = row + col / BLOCK * BLOCK_BYTES;
    return from_bytes(reinterpret_cast<const int8_t*>(block + 2 + col % BLOCK)) * half_value(load_as<uint16_t>(block));
}

inline void fetch(const void* p, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(static_cast<const char*>(p) + line);
}

// Rows that lie one after another.
struct Run {
    const uint8_t* row;
    int64_t count;
};

// The run that begins with row t, up to row `end`.
inline Run run_at(const Rows& rows, int64_t t, int64_t end) {
    if (!rows.pages) return {rows.base + t * rows.row_bytes, end - t};
    const int64_t slot = t % rows.page, left = rows.page - slot;
    const uint8_t* page = rows.base + rows.pages[t / rows.page] * rows.page_bytes;
    return {page + slot * rows.row_bytes, left < end - t ? left : end - t};
}

// The last `count` < W values of a row, zeros after them. Rows of Q8_0 have no such rest.
template <CacheKind K>
inline vf kept_part(const uint8_t* row, int64_t col, int64_t count) {
    uint8_t whole[4 * W] = {};
    const int64_t size = K == CacheKind::F32 ? 4 : 2;
    memcpy(whole, row + size * col, static_cast<size_t>(size * count));
    return kept<K>(whole, 0);
}

// One block of Q8_0: scale max |x| / 127, values rounded half away from zero.
inline void keep_block(const float* in, uint8_t* out) {
    vf most = vf{};
    for (int64_t i = 0; i < BLOCK; i += W) most = max(most, max(load(in + i), -load(in + i)));
    const float scale = max_lane(most) / 127.0f, inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const uint16_t half = half_bits(scale);
    memcpy(out, &half, 2);
    int8_t steps[BLOCK];
    for (int64_t i = 0; i < BLOCK; ++i) {
        const float x = in[i] * inverse;
        const float rounded = x < 0.0f ? x - 0.5f : x + 0.5f;  // the cast cuts off the fraction
        // what is not finite becomes 0: a cast of it would be undefined
        steps[i] = rounded > -128.0f && rounded < 128.0f ? static_cast<int8_t>(rounded) : int8_t(0);
    }
    memcpy(out + 2, steps, BLOCK);
}

void keep(CacheKind kind, const float* in, uint8_t* out, int64_t head_dim) {
    if (kind == CacheKind::F32) {
        memcpy(out, in, static_cast<size_t>(4 * head_dim));
    } else if (kind == CacheKind::F16) {
        int64_t i = 0;
        uint16_t* halves = reinterpret_cast<uint16_t*>(out);
        for (; i + W <= head_dim; i += W) to_half(halves + i, load(in + i));
        uint16_t rest[W];
        to_half(rest, load_part(in + i, head_dim - i));
        memcpy(halves + i, rest, static_cast<size_t>(2 * (head_dim - i)));
    } else {
        for (; head_dim > 0; head_dim -= BLOCK, in += BLOCK, out += BLOCK_BYTES) keep_block(in, out);
    }
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
