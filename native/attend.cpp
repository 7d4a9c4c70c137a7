// Attention over all sequences of a step: write the new keys and values, plan blocks, run them, join split contexts.
// How a context is split depends on the shapes alone, so the result is the same for any number of threads.
#include <algorithm>
#include <stdexcept>

#include "machine.h"

namespace llamero {

namespace {

constexpr int64_t PART = 512;        // context rows of a part, where a context is split
constexpr int64_t FEW = 32;          // query rows per key head up to which a context is split
constexpr int64_t MOST_ROWS = 256;   // query rows of a block at most, where there are blocks enough for all threads,
constexpr int64_t LEAST_ROWS = 64;   // and where there are not
constexpr double CHUNK = 1 << 20;    // products of scores that a chunk need not exceed
constexpr double ALONE = 20 * 1024;  // products of scores that are done before another thread has woken

std::string shape(const Array& x) { return "(" + std::to_string(x.rows()) + ", " + std::to_string(x.cols()) + ")"; }

int64_t parts_of(const Span& span) { return (span.start + span.length + PART - 1) / PART; }

// Floats of one unfinished result (see Attend::partial), on cache lines of its own.
int64_t partial_floats(int64_t rows, int64_t head_dim) { return (rows * (head_dim + 2) + 15) / 16 * 16; }

void check(const Array& q, const Array& k, const Array& v, const Step& step, int64_t layer) {
    const int64_t tokens = step.tokens(), dim = step.head_dim(), cols = k.cols();
    const bool rows_agree = q.rows() == tokens && k.rows() == tokens && v.rows() == tokens;
    if (!rows_agree || cols != v.cols() || cols < dim || cols % dim != 0 || q.cols() < cols || q.cols() % cols != 0)
        throw std::invalid_argument("attention: q is " + shape(q) + ", k " + shape(k) + ", v " + shape(v) +
                                    ", the step has " + std::to_string(tokens) + " tokens and head_dim " +
                                    std::to_string(dim));
    if (!step.store()) return;
    const StoreShape& size = step.store()->shape();
    if (layer < 0 || layer >= size.layers || cols != size.kv_heads * dim)
        throw std::invalid_argument("attention: layer " + std::to_string(layer) + " with k " + shape(k) +
                                    " does not fit a store of " + std::to_string(size.layers) + " layers and " +
                                    std::to_string(size.kv_heads) + " heads");
}

const uint8_t* first_row(const Attend& task) {
    const Rows& rows = task.keys;
    if (!rows.pages) return rows.base + task.begin * rows.row_bytes;
    return rows.base + rows.pages[task.begin / rows.page] * rows.page_bytes + task.begin % rows.page * rows.row_bytes;
}

}  // namespace

// A span whose new tokens alone offer few blocks is split along its context instead.
bool Machine::splits(const Step& step, const Span& span, int64_t group) const {
    return !deterministic_ && step.store() && span.length * group <= FEW && span.start + span.length > PART;
}

void Machine::remember(const Array& k, const Array& v, const Step& step, int64_t layer) {
    const Store& store = *step.store();
    const StoreShape& size = store.shape();
    uint8_t *keys = store.keys(layer), *values = store.values(layer);
    const auto keep = [&](const Span& span, int64_t token, int64_t t) {
        const int64_t position = span.start + t;
        const int64_t page = span.pages[static_cast<size_t>(position / size.page)];
        int64_t at = page * store.page_bytes() + position % size.page * store.row_bytes();
        for (int64_t head = 0; head < size.kv_heads; ++head, at += store.head_bytes()) {
            const int64_t from = token * k.cols() + head * size.head_dim;
            kernels_.attention.keep(size.kind, k.data() + from, keys + at, size.head_dim);
            kernels_.attention.keep(size.kind, v.data() + from, values + at, size.head_dim);
        }
    };
    int64_t first = 0;
    for (const Span& span : step.spans()) {
        by_rows(span.length, 2 * k.cols(), [&](int64_t begin, int64_t end) {
            for (int64_t t = begin; t < end; ++t) keep(span, first + t, t);
        });
        first += span.length;
    }
}

// Query tokens of a block. What the blocks of a span are changes none of its results: see Attend::steady.
int64_t Machine::block_tokens(const Step& step, int64_t kv_heads, int64_t group) const {
    int64_t rows = MOST_ROWS;
    while (rows > LEAST_ROWS && step.tokens() * group * kv_heads / rows < 8 * threads()) rows /= 2;
    return std::max<int64_t>(rows / group, 1);
}

void Machine::plan(const Step& step, int64_t kv_heads, int64_t group) {
    const int64_t most = block_tokens(step, kv_heads, group), dim = step.head_dim();
    int64_t floats = 0;
    for (const Span& span : step.spans())
        if (splits(step, span, group)) floats += kv_heads * parts_of(span) * partial_floats(span.length * group, dim);
    float* partial = static_cast<float*>(partial_.reserve(sizeof(float) * static_cast<size_t>(floats)));
    blocks_.clear();
    int64_t token = 0;
    for (const Span& span : step.spans()) {
        const int64_t past = step.store() ? span.start : 0, context = past + span.length;
        const bool steady = deterministic_ || span.length * group > LEAST_ROWS;
        if (splits(step, span, group)) {
            for (int64_t head = 0; head < kv_heads; ++head)
                for (int64_t begin = 0; begin < context; begin += PART) {
                    const int64_t end = std::min(begin + PART, context);
                    blocks_.push_back({&span, token, span.length, head, past, begin, end, steady, partial});
                    partial += partial_floats(span.length * group, dim);
                }
        } else {  // the last tokens see most: begin with them
            for (int64_t last = span.length; last > 0; last -= std::min(most, last)) {
                const int64_t tokens = std::min(most, last), i = last - tokens;
                for (int64_t head = 0; head < kv_heads; ++head)
                    blocks_.push_back({&span, token + i, tokens, head, past + i, 0, past + last, steady, nullptr});
            }
        }
        token += span.length;
    }
}

Attend Machine::task(const Block& block, const Array& q, const Array& k, const Array& v, const Step& step,
                     int64_t layer, Array& out) const {
    const int64_t dim = step.head_dim(), kv_heads = k.cols() / dim, group = q.cols() / k.cols();
    Attend task{};
    if (const Store* store = step.store()) {
        const StoreShape& size = store->shape();
        const int64_t head = block.head * store->head_bytes();
        const int32_t* pages = block.span->pages.data();
        task.kind = size.kind;
        task.keys = {store->keys(layer) + head, pages, size.page, store->page_bytes(), store->row_bytes()};
        task.values = {store->values(layer) + head, pages, size.page, store->page_bytes(), store->row_bytes()};
    } else {
        const int64_t at = (block.token - block.first) * k.cols() + block.head * dim, row = 4 * dim * kv_heads;
        task.kind = CacheKind::F32;
        task.keys = {reinterpret_cast<const uint8_t*>(k.data() + at), nullptr, 0, 0, row};
        task.values = {reinterpret_cast<const uint8_t*>(v.data() + at), nullptr, 0, 0, row};
    }
    task.q = q.data() + block.token * q.cols() + block.head * group * dim;
    task.out = out.data() + block.token * q.cols() + block.head * group * dim;
    task.q_stride = q.cols();
    task.tokens = block.tokens;
    task.heads = group;
    task.head_dim = dim;
    task.first = block.first;
    task.begin = block.begin;
    task.end = block.end;
    task.steady = block.steady;
    task.partial = block.partial;
    return task;
}

void Machine::merge(const Step& step, int64_t kv_heads, int64_t group, Array& out) {
    const int64_t dim = step.head_dim();
    const float* partial = static_cast<const float*>(partial_.data());
    int64_t token = 0;
    for (const Span& span : step.spans()) {
        if (splits(step, span, group)) {
            const int64_t stride = partial_floats(span.length * group, dim), parts = parts_of(span);
            for (int64_t head = 0; head < kv_heads; ++head, partial += parts * stride) {
                float* to = out.data() + token * out.cols() + head * group * dim;
                kernels_.attention.merge(partial, parts, stride, to, out.cols(), span.length, group, dim);
            }
        }
        token += span.length;
    }
}

Array Machine::attention(const Array& q, const Array& k, const Array& v, const Step& step, int64_t layer) {
    check(q, k, v, step, layer);
    const int64_t dim = step.head_dim(), kv_heads = k.cols() / dim, group = q.cols() / k.cols();
    Array out = array(q.rows(), q.cols());
    if (step.store()) remember(k, v, step, layer);
    plan(step, kv_heads, group);
    double work = 0;
    int64_t rows = 0;
    for (const Block& block : blocks_) {
        work += static_cast<double>(block.tokens * group * (block.end - block.begin) * dim);
        rows = std::max(rows, block.tokens * group);
    }
    reserve(kernels_.attention.scratch_bytes(rows, dim));
    // Small blocks that follow one another go to one thread, so that it can fetch ahead from one to the next.
    const int64_t count = static_cast<int64_t>(blocks_.size());
    const int64_t chunks = std::min(count, std::max<int64_t>(8 * threads(), static_cast<int64_t>(work / CHUNK)));
    run(chunks, work > ALONE, [&](int thread, int64_t chunk) {
        const int64_t begin = count * chunk / chunks, end = count * (chunk + 1) / chunks;
        Attend next = task(blocks_[static_cast<size_t>(begin)], q, k, v, step, layer, out);
        for (int64_t index = begin; index < end; ++index) {
            Attend one = next;
            if (index + 1 < end) {
                next = task(blocks_[static_cast<size_t>(index + 1)], q, k, v, step, layer, out);
                one.next = first_row(next);
            }
            kernels_.attention.attend(one, scratch_[static_cast<size_t>(thread)].data());
        }
    });
    merge(step, kv_heads, group, out);
    return out;
}

}  // namespace llamero
