// Attention of a block of queries over their context, tile by tile with a running softmax (Milakov and Gimelshein
// 2018; Dao et al. 2022). All query heads of a key head go together, so that a kept row is read once for all of them.
#include "attend_few.h"
#include "attend_many.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

size_t scratch_bytes(int64_t rows, int64_t dim) {
    const int64_t few = FewRows::floats(rows < FEW ? rows : FEW, dim), many = ManyRows::floats(rows, dim);
    return static_cast<size_t>(4 * (few > many ? few : many));
}

void finish(const Attend& task, const Softened& w) {
    const int64_t dim = task.head_dim;
    float *sums = task.partial, *maxima = sums + w.rows * dim, *weights = maxima + w.rows;
    for (int64_t r = 0; r < w.rows; ++r) {
        const float* from = w.sums + r * w.stride;
        if (task.partial) {
            memcpy(sums + r * dim, from, static_cast<size_t>(4 * dim));
            maxima[r] = w.maximum[r];
            weights[r] = w.weight[r];
            continue;
        }
        float* to = row_of(task, task.out, r);
        if (r + 8 < w.rows) fetch(row_of(task, task.out, r + 8), 4 * dim);  // each token's lies in a page of its own
        const float share = 1.0f / w.weight[r];
        for (int64_t d = 0; d < dim; ++d) to[d] = from[d] * share;
    }
}

template <CacheKind K>
void attend(const Attend& task, void* scratch) {
    const int64_t rows = task.tokens * task.heads, seen = task.first + task.tokens;
    const int64_t end = task.end < seen ? task.end : seen;
    const bool few = !task.steady && rows <= FEW;
    float* floats = static_cast<float*>(scratch);
    if (few && task.head_dim % W == 0) return finish(task, attend_few<K>(task, end, floats));
#if defined(__AVX512VNNI__)
    // Who keeps whole floats wants them computed with.
    if (K != CacheKind::F32 && !few) return finish(task, attend_many<K, Pairs>(task, end, floats));
#endif
    finish(task, attend_many<K, Floats>(task, end, floats));
}

void attend(const Attend& task, void* scratch) {
    if (task.kind == CacheKind::F32) attend<CacheKind::F32>(task, scratch);
    if (task.kind == CacheKind::F16) attend<CacheKind::F16>(task, scratch);
    if (task.kind == CacheKind::Q8_0) attend<CacheKind::Q8_0>(task, scratch);
}

void merge(const float* partial, int64_t parts, int64_t stride, float* out, int64_t q_stride, int64_t tokens,
           int64_t heads, int64_t head_dim) {
    const int64_t rows = tokens * heads;
    for (int64_t r = 0; r < rows; ++r) {
        float* to = out + r / heads * q_stride + r % heads * head_dim;
        const float* maxima = partial + rows * head_dim + r;
        float most = LEAST, total = 0.0f;
        for (int64_t p = 0; p < parts; ++p) most = maxima[p * stride] > most ? maxima[p * stride] : most;
        memset(to, 0, static_cast<size_t>(4 * head_dim));
        for (int64_t p = 0; p < parts; ++p) {
            const float scale = exp(broadcast(maxima[p * stride] - most))[0];
            const float* from = partial + p * stride + r * head_dim;
            total += maxima[p * stride + rows] * scale;
            for (int64_t d = 0; d < head_dim; ++d) to[d] += from[d] * scale;
        }
        for (int64_t d = 0; d < head_dim; ++d) to[d] /= total;
    }
}

}  // namespace

Attention attention() { return {scratch_bytes, attend, merge, keep}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
