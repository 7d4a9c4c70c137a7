// Operations on rows of floats: norm, rotation, gate, sum.
#include <cmath>

#include "kernels.h"
#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// Calls whole(i) for every whole vector of `count` values and part(i, n) for what is left.
template <class Whole, class Part>
inline void sweep(int64_t count, Whole whole, Part part) {
    int64_t i = 0;
    for (; i + W <= count; i += W) whole(i);
    if (i < count) part(i, count - i);
}

float sum_of_squares(const float* x, int64_t count) {
    vf a[4] = {};
    int64_t i = 0;
    for (; i + 4 * W <= count; i += 4 * W)
        for (int j = 0; j < 4; ++j) {
            const vf v = load(x + i + j * W);
            a[j] += v * v;
        }
    const auto add = [&](vf v) { a[0] += v * v; };
    sweep(
        count - i, [&](int64_t j) { add(load(x + i + j)); },
        [&](int64_t j, int64_t n) { add(load_part(x + i + j, n)); });
    return sum((a[0] + a[1]) + (a[2] + a[3]));
}

void rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t cols, float eps) {
    for (; rows > 0; --rows, x += cols, y += cols) {
        const float scale = 1.0f / sqrtf(sum_of_squares(x, cols) / static_cast<float>(cols) + eps);
        sweep(
            cols, [&](int64_t i) { store(y + i, load(x + i) * scale * load(weight + i)); },
            [&](int64_t i, int64_t n) {
                store_part(y + i, load_part(x + i, n) * scale * load_part(weight + i, n), n);
            });
    }
}

void rope(const float* x, float* y, const float* table, int64_t rows, int64_t cols, int64_t head_dim) {
    for (; rows > 0; --rows, table += 2 * head_dim) {
        const float *cosines = table, *sines = table + head_dim;
        for (int64_t h = 0; h < cols; h += head_dim, x += head_dim, y += head_dim) {
            sweep(
                head_dim,
                [&](int64_t i) {
                    const vf v = load(x + i);
                    store(y + i, v * load(cosines + i) + swap_pairs(v) * load(sines + i));
                },
                [&](int64_t i, int64_t n) {
                    const vf v = load_part(x + i, n);
                    const vf turned = v * load_part(cosines + i, n) + swap_pairs(v) * load_part(sines + i, n);
                    store_part(y + i, turned, n);
                });
        }
    }
}

inline vf gated(vf gate, vf up) { return gate / (1.0f + exp(-gate)) * up; }

void swiglu(const float* gate, const float* up, float* y, int64_t count) {
    sweep(
        count, [&](int64_t i) { store(y + i, gated(load(gate + i), load(up + i))); },
        [&](int64_t i, int64_t n) { store_part(y + i, gated(load_part(gate + i, n), load_part(up + i, n)), n); });
}

void add(const float* x, const float* y, float* z, int64_t count) {
    sweep(
        count, [&](int64_t i) { store(z + i, load(x + i) + load(y + i)); },
        [&](int64_t i, int64_t n) { store_part(z + i, load_part(x + i, n) + load_part(y + i, n), n); });
}

}  // namespace

Rowwise rowwise() { return {rms_norm, rope, swiglu, add}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
