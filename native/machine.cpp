// Operations on rows, and how they are shared out.
#include "machine.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace llamero {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

std::string shape(const Array& x) { return "(" + std::to_string(x.rows()) + ", " + std::to_string(x.cols()) + ")"; }

void same_shape(const char* name, const Array& x, const Array& y) {
    if (x.rows() != y.rows() || x.cols() != y.cols())
        refuse(std::string(name) + ": arrays of different shapes, " + shape(x) + " and " + shape(y));
}

// Values and bytes of a type's blocks.
struct BlockSize {
    int type, values, bytes;
};
constexpr BlockSize BLOCK_SIZES[] = {
    {0, 1, 4},      {1, 1, 2},      {2, 32, 18},   {3, 32, 20},    {6, 32, 22},
    {7, 32, 24},    {8, 32, 34},    {10, 256, 84}, {11, 256, 110}, {12, 256, 144},
    {13, 256, 176}, {14, 256, 210}, {20, 32, 18},  {23, 256, 136}, {30, 1, 2},
};

}  // namespace

int64_t matrix_bytes(int type, int64_t rows, int64_t k) {
    for (const BlockSize& size : BLOCK_SIZES) {
        if (size.type != type) continue;
        int64_t bytes;
        if (rows < 1 || k < 1 || k % size.values != 0)
            refuse("a weight of " + std::to_string(rows) + " rows of " + std::to_string(k) +
                   " values cannot be made of blocks of " + std::to_string(size.values));
        if (__builtin_mul_overflow(rows, k / size.values * size.bytes, &bytes) || bytes > int64_t(1) << 46)
            refuse("a weight of that size cannot exist");
        return bytes;
    }
    refuse("there are no kernels for weights of type " + std::to_string(type));
}

Machine::Machine(int threads, const Kernels& kernels)
    : kernels_(kernels),
      heap_(std::make_shared<Heap>()),
      pool_(threads),
      scratch_(static_cast<size_t>(pool_.threads())) {}

void Machine::reserve(size_t bytes) {
    for (Scratch& scratch : scratch_) scratch.reserve(bytes);
}

Array Machine::embed(const Matrix& table, const std::vector<int64_t>& ids) {
    for (int64_t id : ids)
        if (id < 0 || id >= table.rows)
            refuse("token " + std::to_string(id) + " is not in the embedding of " + std::to_string(table.rows) +
                   " rows");
    Array out = array(static_cast<int64_t>(ids.size()), table.k);
    by_rows(out.rows(), out.cols(), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const uint8_t* row = table.data + ids[static_cast<size_t>(i)] * table.row_bytes;
            kernels_.products.decode(table.type, row, out.data() + i * table.k, table.k);
        }
    });
    return out;
}

Array Machine::rms_norm(const Array& x, const float* weight, int64_t length, float eps) {
    if (length != x.cols())
        refuse("rms_norm: x is " + shape(x) + ", the weight has " + std::to_string(length) + " values");
    Array out = array(x.rows(), x.cols());
    const int64_t cols = x.cols();
    by_rows(x.rows(), cols, [&](int64_t begin, int64_t end) {
        kernels_.rowwise.rms_norm(x.data() + begin * cols, weight, out.data() + begin * cols, end - begin, cols, eps);
    });
    return out;
}

Array Machine::rope(const Array& x, const Step& step) {
    const int64_t cols = x.cols(), dim = step.head_dim();
    if (x.rows() != step.tokens() || cols % dim != 0)
        refuse("rope: x is " + shape(x) + ", the step has " + std::to_string(step.tokens()) + " tokens and head_dim " +
               std::to_string(dim));
    Array out = array(x.rows(), cols);
    by_rows(x.rows(), cols, [&](int64_t begin, int64_t end) {
        kernels_.rowwise.rope(x.data() + begin * cols, out.data() + begin * cols, step.table() + begin * 2 * dim,
                              end - begin, cols, dim);
    });
    return out;
}

Array Machine::swiglu(const Array& gate, const Array& up) {
    same_shape("swiglu", gate, up);
    Array out = array(gate.rows(), gate.cols());
    const int64_t cols = gate.cols();
    by_rows(gate.rows(), cols, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * cols;
        kernels_.rowwise.swiglu(gate.data() + at, up.data() + at, out.data() + at, (end - begin) * cols);
    });
    return out;
}

Array Machine::add(const Array& x, const Array& y) {
    same_shape("add", x, y);
    Array out = array(x.rows(), x.cols());
    const int64_t cols = x.cols();
    by_rows(x.rows(), cols, [&](int64_t begin, int64_t end) {
        const int64_t at = begin * cols;
        kernels_.rowwise.add(x.data() + at, y.data() + at, out.data() + at, (end - begin) * cols);
    });
    return out;
}

Array Machine::take(const Array& x, const std::vector<int64_t>& rows) {
    for (int64_t row : rows)
        if (row < 0 || row >= x.rows()) refuse("take: x is " + shape(x) + " and has no row " + std::to_string(row));
    Array out = array(static_cast<int64_t>(rows.size()), x.cols());
    const int64_t cols = x.cols();
    for (size_t i = 0; i < rows.size(); ++i)
        memcpy(out.data() + static_cast<int64_t>(i) * cols, x.data() + rows[i] * cols,
               sizeof(float) * static_cast<size_t>(cols));
    return out;
}

}  // namespace llamero
