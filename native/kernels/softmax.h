// What the two paths of attention share: the running softmax of query rows (Milakov and Gimelshein 2018).
#pragma once
#include <cfloat>
#include <cmath>

#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr float LEAST = -FLT_MAX;  // the largest score of a row that has seen nothing: finite, so that no NaN arises

// Query rows after some of their context: `stride` floats a row for the weighted sums of values; per row the largest
// score yet and the sum of the weights e^(score - largest).
struct Softened {
    int64_t rows, stride;
    float *sums, *maximum, *weight;
};

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
