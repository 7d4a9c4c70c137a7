// Products of activations with stored weights: what every instruction-set level offers.
// Plain pointers and sizes; buffers belong to the caller; nothing allocates, locks or throws.
#pragma once
#include <cstddef>
#include <cstdint>

namespace llamero {

// Element and block types, numbered as in GGUF.
enum class Type : int32_t {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
    Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, BF16 = 30,
};

// A stored weight: rows (outputs) of k values (inputs) each, row after row, in the file's own layout.
struct Matrix {
    Type type;
    int64_t rows;
    int64_t k;
    int64_t row_bytes;
    const uint8_t* data;
};

// How activations are prepared once before they meet weights; each path wants one form.
enum class Form : int32_t {
    Float, BFloat, Int8, WideRow, Lanes, Spread, FloatSpread, BFloatSpread, FloatTile, BFloatTile, Int8Tile, WideTile,
    FixedTile,
};
constexpr int forms = 13;

struct Products {
    // The form that a weight type wants its activations in (for n rows of them).
    Form (*form)(Type type, int64_t n);
    // Bytes that n prepared rows of k values take.
    size_t (*form_bytes)(Form form, int64_t n, int64_t k);
    // Whether rows are kept apart from one another, so that any split of them may be prepared in parallel.
    bool (*apart)(Form form);
    // Prepare rows [begin, end) of x (n, k) into `out` (form_bytes, 64-byte aligned).
    void (*prepare)(Form form, const float* x, int64_t n, int64_t k, void* out, int64_t begin, int64_t end);
    // Scratch bytes one thread needs for `product` (64-byte aligned).
    size_t (*scratch_bytes)(Type type, int64_t n);
    // y[i * ldy + j] = sum over k of x[i][k] * w[j][k], for all n rows i and for weight rows j in [begin, end).
    // Any split of the weight rows may run in parallel; `step` says which multiple of rows splits best.
    void (*product)(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                    void* scratch);
    // The multiple of weight rows that a thread should take at a time.
    int64_t (*step)(Type type, int64_t n);
    // Decode k values of a stored row to float (embedding lookup, and the tests' view of a type).
    void (*decode)(Type type, const uint8_t* row, float* out, int64_t k);
};

}  // namespace llamero
