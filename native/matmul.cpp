// Products with several weights at once: prepare the activations once, then share out the rows of all weights.
#include <algorithm>
#include <stdexcept>

#include "machine.h"

namespace llamero {

namespace {

// Rough costs in nanoseconds on one core, only to decide what is worth sharing out.
constexpr double BYTE = 0.07;       // to stream a byte of weights
constexpr double MULTIPLY = 0.004;  // to multiply and add once
constexpr double SMALLEST = 2500;   // a piece of work that is worth a thread's claim
constexpr double ALONE = 4000;      // work that is done before another thread has woken

double row_cost(const Matrix& w, int64_t n) {
    return std::max(BYTE * static_cast<double>(w.row_bytes), MULTIPLY * static_cast<double>(n * w.k));
}

}  // namespace

const void* Machine::prepared(Form form, const Array& x) {
    const int64_t n = x.rows(), k = x.cols();
    const Products& products = kernels_.products;
    void* out = prepared_[static_cast<int>(form)].reserve(products.form_bytes(form, n, k));
    constexpr int64_t GROUP = 16;  // rows; a common multiple of how many any form puts side by side
    const int64_t groups = (n + GROUP - 1) / GROUP;
    if (groups < 2 || !products.apart(form) || !shares(n * k)) {
        products.prepare(form, x.data(), n, k, out, 0, n);
    } else {
        const int64_t pieces = std::min<int64_t>(groups, 4 * threads());
        pool_.run(pieces, [&](int, int64_t piece) {
            const int64_t begin = groups * piece / pieces * GROUP;
            products.prepare(form, x.data(), n, k, out, begin, std::min(n, groups * (piece + 1) / pieces * GROUP));
        });
    }
    return out;
}

// Cuts the rows of all weights into chunks: large ones first, which stream best, then ever smaller ones, so that all
// threads end together. Each is a share of the work that is left. False where the whole is not worth sharing out.
bool Machine::split(const Matrix* const* weights, size_t count, int64_t n) {
    chunks_.clear();
    double left = 0;
    for (size_t i = 0; i < count; ++i) left += row_cost(*weights[i], n) * static_cast<double>(weights[i]->rows);
    const bool whole = threads() == 1 || left < ALONE;
    for (size_t i = 0; i < count; ++i) {
        const Matrix& w = *weights[i];
        const double cost = row_cost(w, n);
        const int64_t step = std::max<int64_t>(kernels_.products.step(w.type, at_once(n)), 1);
        for (int64_t begin = 0; begin < w.rows;) {
            const double share = std::max(left / (2 * threads()), SMALLEST);
            const int64_t steps =
                std::max<int64_t>(static_cast<int64_t>(share / (cost * static_cast<double>(step))), 1);
            int64_t end = begin + steps * step;
            if (whole || w.rows - end < step) end = w.rows;
            chunks_.push_back({static_cast<int>(i), begin, end});
            left -= cost * static_cast<double>(end - begin);
            begin = end;
        }
    }
    return !whole;
}

std::vector<Array> Machine::matmul(const Array& x, const Matrix* const* weights, size_t count) {
    const int64_t n = x.rows(), k = x.cols();
    const Products& products = kernels_.products;
    std::vector<Array> out;
    out.reserve(count);
    size_t scratch = 0;
    for (size_t i = 0; i < count; ++i) {
        const Matrix& w = *weights[i];
        if (w.k != k)
            throw std::invalid_argument("matmul: x is (" + std::to_string(n) + ", " + std::to_string(k) + "), weight " +
                                        std::to_string(i) + " is (" + std::to_string(w.rows) + ", " +
                                        std::to_string(w.k) + ")");
        out.push_back(array(n, w.rows));
        scratch = std::max(scratch, products.scratch_bytes(w.type, at_once(n)));
    }
    if (n == 0) return out;
    reserve(scratch);
    const void* done[forms] = {};
    for (size_t i = 0; i < count; ++i) {
        const Form form = products.form(weights[i]->type, at_once(n));
        const void*& rows = done[static_cast<int>(form)];
        if (!rows) rows = prepared(form, x);
    }
    const bool shared = split(weights, count, n);
    run(static_cast<int64_t>(chunks_.size()), shared, [&](int thread, int64_t index) {
        const Chunk& chunk = chunks_[static_cast<size_t>(index)];
        const Matrix& w = *weights[chunk.weight];
        const void* form = done[static_cast<int>(products.form(w.type, at_once(n)))];
        float* y = out[static_cast<size_t>(chunk.weight)].data();
        multiply(w, form, n, y, chunk.begin, chunk.end, scratch_[static_cast<size_t>(thread)].data());
    });
    return out;
}

// y[i * w.rows + j] for weight rows [begin, end). Where results may not depend on what else is in a batch, each row of
// activations goes alone: past a few weight rows at a time, which stay near for the next.
void Machine::multiply(const Matrix& w, const void* form, int64_t n, float* y, int64_t begin, int64_t end,
                       void* scratch) const {
    const Products& products = kernels_.products;
    if (!deterministic_) return products.product(w, form, n, y, w.rows, begin, end, scratch);
    constexpr int64_t NEAR = 16 * 1024;  // bytes of weights
    const int64_t some = std::max<int64_t>(NEAR / w.row_bytes, 1);
    const size_t row = products.form_bytes(products.form(w.type, 1), 1, w.k);
    for (int64_t j = begin; j < end; j += some)
        for (int64_t i = 0; i < n; ++i) {
            const void* x = static_cast<const uint8_t*>(form) + static_cast<size_t>(i) * row;
            products.product(w, x, 1, y + i * w.rows, w.rows, j, std::min(j + some, end), scratch);
        }
}

}  // namespace llamero
