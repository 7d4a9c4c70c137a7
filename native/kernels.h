// The table of functions that every instruction-set level fills in, and how to find a level at run time.
// Plain functions over pointers, sizes and strides; nothing in a table allocates, locks or throws.
#pragma once
#include <cstddef>
#include <cstdint>

#include "products.h"

namespace llamero {

// Operations on rows of floats. Arrays may not overlap, except that y may be x itself.
struct Rowwise {
    // y = x / sqrt(mean(x^2) + eps) * weight for each row of cols values.
    void (*rms_norm)(const float* x, const float* weight, float* y, int64_t rows, int64_t cols, float eps);
    // Rotates neighbouring pairs of each head. `table` has 2 * head_dim floats a row: cos c0 c0 c1 c1 ..., then
    // sin -s0 s0 -s1 s1 ...; cols is a multiple of head_dim.
    void (*rope)(const float* x, float* y, const float* table, int64_t rows, int64_t cols, int64_t head_dim);
    void (*swiglu)(const float* gate, const float* up, float* y, int64_t count);  // silu(gate) * up
    void (*add)(const float* x, const float* y, float* z, int64_t count);
};

// How a cache keeps a row of head_dim values: floats, halves, or Q8_0 blocks of 32.
enum class CacheKind : int32_t { F32, F16, Q8_0 };

// The keys or values of one sequence and one head: row t is at base + pages[t / page] * page_bytes + t % page *
// row_bytes. Without pages, rows simply follow one another.
struct Rows {
    const uint8_t* base;
    const int32_t* pages;  // null: not paged
    int64_t page;
    int64_t page_bytes;
    int64_t row_bytes;
};

// A block of query tokens of one sequence, all query heads of one key head, over a part of their context.
struct Attend {
    CacheKind kind;
    Rows keys, values;
    const float* q;    // query head h of token i starts at q + i * q_stride + h * head_dim
    float* out;        // likewise; q's stride. Only written where `partial` is null
    int64_t q_stride;  // floats between tokens
    int64_t tokens;    // query tokens
    int64_t heads;     // query heads
    int64_t head_dim;
    int64_t first;       // query token i sees the context rows 0 .. first + i
    int64_t begin, end;  // the part of the context to read
    const uint8_t* next;  // what will be read after that: a guess, good for fetching ahead. May be null
    // No bit of a query row's result may depend on what other rows are in the block, as long as it begins at row 0.
    bool steady;
    // Where not null, the result stays unfinished: for each query row (token by token, head by head) head_dim sums,
    // then its maximum score and its sum of weights.
    float* partial;
};

struct Attention {
    // Scratch bytes for one block (64-byte aligned).
    size_t (*scratch_bytes)(int64_t query_rows, int64_t head_dim);
    void (*attend)(const Attend& task, void* scratch);
    // Joins `parts` unfinished results, `stride` floats apart, into out (query rows as in Attend).
    void (*merge)(const float* partial, int64_t parts, int64_t stride, float* out, int64_t q_stride, int64_t tokens,
                  int64_t heads, int64_t head_dim);
    // Writes one row of head_dim values the way `kind` keeps it.
    void (*keep)(CacheKind kind, const float* in, uint8_t* out, int64_t head_dim);
};

// Bytes of one kept row. Static: no level may borrow another's copy.
static inline int64_t kept_bytes(CacheKind kind, int64_t head_dim) {
    return kind == CacheKind::F32 ? 4 * head_dim : kind == CacheKind::F16 ? 2 * head_dim : head_dim / 32 * 34;
}

// Some rows of a low-rank change: y += (x a^T) b, with a (rank, columns of x) and b (rank, columns of y).
struct LowRankPart {
    Type type;           // of a and b: F32, F16 or BF16
    const int64_t* row;  // which rows of x and y
    int64_t rows;        // how many
    int64_t k;           // columns of x (narrow), of y (widen); they are also the rows' distance
    int64_t rank;
    int64_t begin, end;  // of the ranks (narrow), of the columns (widen)
};

struct LowRank {
    // low[i * rank + r] = the product of row row[i] of x and row r of a.
    void (*narrow)(const LowRankPart& part, const float* x, const uint8_t* a, float* low);
    // Row row[i] of y += the sum over r of low[i * rank + r] times row r of b.
    void (*widen)(const LowRankPart& part, const float* low, const uint8_t* b, float* y);
};

// The type of values that training works on. Sums, norms, softmax and what leads to them are floats in any case.
enum class Value : int32_t { F32, BF16 };

// One sequence, one key head and its query heads. Rows are tokens; a head's values lie at head * head_dim in its row.
struct AttendWhole {
    Value kind;
    const void *q, *k, *v;  // at the first of the query heads, and at the key head
    int64_t q_stride, k_stride;  // values from row to row, of v too
    int64_t length, heads, head_dim;
    void* out;        // as q; written forward
    float* normaliser;  // log of the sum of e^score of head h and token i at h * normaliser_stride + i
    int64_t normaliser_stride;
    const void* gradient;  // of out, as q; read backward
    void *dq, *dk, *dv;    // as q, k and v; written backward
};

// What a training step does beside its products, forward and backward. Rows of cols values each, one after another.
struct Training {
    // y = x * inverse * weight, inverse = 1 / sqrt(mean(x^2) + eps) of each row.
    void (*norm)(Value kind, const void* x, const float* weight, void* y, float* inverse, int64_t rows, int64_t cols,
                 float eps);
    // dx, and dweight added to.
    void (*norm_back)(Value kind, const void* x, const float* weight, const float* inverse, const void* dy, void* dx,
                      float* dweight, int64_t rows, int64_t cols);
    // As Rowwise.rope; `sign` -1 turns back.
    void (*turn)(Value kind, const void* x, void* y, const float* table, float sign, int64_t rows, int64_t cols,
                 int64_t head_dim);
    void (*gate)(Value kind, const void* gate, const void* up, void* y, int64_t count);  // silu(gate) * up
    void (*gate_back)(Value kind, const void* gate, const void* up, const void* dy, void* dgate, void* dup,
                      int64_t count);
    // losses = log sum e^logits - logits[target] of each row. With weights, logits become the gradient of the sum of
    // weight * (loss + z_loss * (log sum e^logits)^2).
    void (*cross_entropy)(Value kind, void* logits, const int64_t* targets, const float* weights, float z_loss,
                          float* losses, int64_t rows, int64_t cols);
    size_t (*scratch_bytes)(int64_t length, int64_t head_dim);  // for each of the following, 64-byte aligned
    void (*attend)(const AttendWhole& task, void* scratch);     // causal
    void (*attend_back)(const AttendWhole& task, void* scratch);
};

// Loops that only multiply or only read, to learn what a machine can do at most. The first three keep to registers and
// return how many multiplications and additions they did: 0 where the processor has no such unit.
struct Limits {
    int64_t (*multiply_ints)(int64_t rounds);  // bytes, added up in 32 bits
    int64_t (*multiply_bfloats)(int64_t rounds);
    int64_t (*multiply_floats)(int64_t rounds);
    void (*read)(const uint8_t* from, int64_t bytes);
};

// How a token is chosen from logits that are finite or minus infinity; see engine/sampling.py for the chain.
struct Choosing {
    static constexpr int64_t UNSURE = -1;
    static constexpr int64_t BLOCK = 64;   // logits that are looked at, or passed over, together
    static constexpr int64_t FEW = 4096;   // values that are rather sorted

    const float* logits;
    int64_t count;
    float temperature;
    int64_t top_k;   // 0 is off
    double top_p;    // 1 is off
    float least;     // min_p as the least scaled logit, the highest being 0
    double uniform;  // from 0 up to but not including 1
    float* most;     // scratch: a float for each block
    float* few;      // scratch: for each block or FEW, whichever is more, and a block more
    double* mass;    // scratch: for each block or FEW, whichever is more
};

struct Choices {
    void (*exponentials)(const float* x, float* y, int64_t count);  // y = e^x; y may be x
    int64_t (*choose)(const Choosing& task);                        // the token, or UNSURE
};

// All kernels of one level. native/kernels/level.cpp builds it; nothing else names a level's functions.
struct Kernels {
    const char* level;
    Products products;
    Rowwise rowwise;
    Attention attention;
    Limits limits;
    Training training;
    LowRank low_rank;
    Choices choices;
};

// The levels that this processor and operating system can run, weakest first; ends with a null pointer.
const Kernels* const* levels();

}  // namespace llamero

// Files in native/kernels/ are compiled once per level, each time with LLAMERO_LEVEL set to its name. What they share
// with one another lives in namespace llamero::<level>, everything else in anonymous namespaces inside it.
#ifdef LLAMERO_LEVEL
namespace llamero {
namespace LLAMERO_LEVEL {
Products products();    // products.cpp
Rowwise rowwise();      // rowwise.cpp
Attention attention();  // attention.cpp
Limits limits();        // limits.cpp
Training training();    // training.cpp
Choices choices();      // choosing.cpp
LowRank low_rank();     // low_rank.cpp
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
#endif
