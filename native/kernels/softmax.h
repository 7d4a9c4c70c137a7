// What the two paths of attention share: the running softmax of query rows (Milakov and Gimelshein 2018).
#pragma once
#include <cmath>

#include "kernels.h"
#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr float LEAST = -1e30f;  // the largest score of a row that has seen nothing: finite, so that no NaN arises

// Query rows after some of their context: `stride` floats a row for the weighted sums of values; per row the largest
// score yet and the sum of the weights e^(score - largest).
struct Softened {
    int64_t rows, stride;
    float *sums, *maximum, *weight;
};

// Row r of a block, token by token and head by head, in q or in out.
template <class P>
inline P row_of(const Attend& task, P begin, int64_t r) {
    return begin + r / task.heads * task.q_stride + r % task.heads * task.head_dim;
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
