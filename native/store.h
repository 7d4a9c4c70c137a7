// Memory for keys and values, and the plan of one step over it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace llamero {

struct StoreShape {
    int64_t layers, kv_heads, head_dim, pages, page;
    CacheKind kind;
};

// Per layer all keys, then all values: [page][kv_head][slot][head_dim], so that the rows of one page and head follow
// one another. The memory is the system's untouched pages: it costs nothing until written.
class Store {
public:
    // Throws std::invalid_argument for an impossible shape, std::bad_alloc where the system grants no address space.
    explicit Store(const StoreShape& shape);
    ~Store();
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    const StoreShape& shape() const { return shape_; }
    int64_t bytes() const { return bytes_; }
    int64_t row_bytes() const { return row_bytes_; }
    int64_t head_bytes() const { return row_bytes_ * shape_.page; }
    int64_t page_bytes() const { return head_bytes() * shape_.kv_heads; }
    uint8_t* keys(int64_t layer) const { return data_ + 2 * layer * half_; }
    uint8_t* values(int64_t layer) const { return data_ + (2 * layer + 1) * half_; }
    // The first `rows` tokens of one page, in all layers, into another. Throws std::invalid_argument for others' pages.
    void copy(int64_t source, int64_t target, int64_t rows);

private:
    StoreShape shape_;
    int64_t row_bytes_, half_, bytes_;  // half: the keys, or the values, of one layer
    uint8_t* data_;
};

// One sequence's share of a step.
struct Span {
    int64_t start;   // position of its first new token
    int64_t length;  // new tokens
    std::vector<int32_t> pages;
};

// What all layers of one step share: whose the tokens are, where they stand, how they are rotated.
class Step {
public:
    // `store` may be null. Throws std::invalid_argument for spans that do not fit the store.
    Step(std::shared_ptr<Store> store, std::vector<Span> spans, const double* inv_freq, int64_t pairs);

    const Store* store() const { return store_.get(); }
    const std::vector<Span>& spans() const { return spans_; }
    int64_t tokens() const { return tokens_; }
    int64_t head_dim() const { return head_dim_; }
    // Rows of 2 * head_dim floats as Rowwise::rope reads them.
    const float* table() const { return table_.data(); }

private:
    void check(const Span& span) const;

    std::shared_ptr<Store> store_;
    std::vector<Span> spans_;
    int64_t tokens_ = 0, head_dim_;
    std::vector<float> table_;
};

}  // namespace llamero
