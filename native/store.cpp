// Sizes of stores, and the rotations of a step.
#include "store.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace llamero {

namespace {

constexpr int64_t MARGIN = 64;                  // bytes behind the last row
constexpr int64_t FARTHEST = int64_t(1) << 40;  // positions beyond this are nobody's
constexpr int64_t MOST_BYTES = int64_t(1) << 46;

int64_t product(std::initializer_list<int64_t> factors) {
    int64_t result = 1;
    for (int64_t factor : factors)
        if (factor < 1 || __builtin_mul_overflow(result, factor, &result) || result > MOST_BYTES)
            throw std::invalid_argument("a store needs sizes of at least 1 and at most 64 TiB of memory");
    return result;
}

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

}  // namespace

Store::Store(const StoreShape& shape) : shape_(shape), row_bytes_(0), half_(0), bytes_(0), data_(nullptr) {
    if (shape.kind == CacheKind::Q8_0 && shape.head_dim % 32 != 0)
        refuse("a q8_0 store needs a head_dim that is a multiple of 32, not " + std::to_string(shape.head_dim));
    product({shape.head_dim, 4});
    row_bytes_ = kept_bytes(shape.kind, shape.head_dim);
    half_ = product({row_bytes_, shape.page, shape.kv_heads, shape.pages});
    bytes_ = product({half_, 2, shape.layers}) + MARGIN;
    int flags = MAP_PRIVATE | MAP_ANON;
#if defined(MAP_NORESERVE)
    flags |= MAP_NORESERVE;
#endif
    void* memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(memory);
}

void Store::copy(int64_t source, int64_t target, int64_t rows) {
    if (std::min(source, target) < 0 || std::max(source, target) >= shape_.pages || rows < 0 || rows > shape_.page)
        refuse("cannot copy " + std::to_string(rows) + " tokens from page " + std::to_string(source) + " to " +
               std::to_string(target));
    if (source == target) return;
    for (int64_t half = 0; half < 2 * shape_.layers; ++half)
        for (int64_t head = 0; head < shape_.kv_heads; ++head) {
            uint8_t* heads = data_ + half * half_ + head * head_bytes();
            memcpy(heads + target * page_bytes(), heads + source * page_bytes(), static_cast<size_t>(rows * row_bytes_));
        }
}

Store::~Store() { munmap(data_, static_cast<size_t>(bytes_)); }

Step::Step(std::shared_ptr<Store> store, std::vector<Span> spans, const double* inv_freq, int64_t pairs)
    : store_(std::move(store)), spans_(std::move(spans)), head_dim_(2 * pairs) {
    if (pairs < 1) refuse("inv_freq is empty");
    if (store_ && store_->shape().head_dim != head_dim_)
        refuse("inv_freq is of head_dim " + std::to_string(head_dim_) + ", the store of head_dim " +
               std::to_string(store_->shape().head_dim));
    for (const Span& span : spans_) {
        check(span);
        tokens_ += span.length;
        if (tokens_ > FARTHEST / head_dim_) refuse("a step of so many tokens cannot exist");
    }
    table_.resize(static_cast<size_t>(tokens_ * 2 * head_dim_));
    float* row = table_.data();
    for (const Span& span : spans_)
        for (int64_t t = 0; t < span.length; ++t, row += 2 * head_dim_)
            for (int64_t i = 0; i < pairs; ++i) {
                const double angle = static_cast<double>(span.start + t) * inv_freq[i];
                const float c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
                row[2 * i] = row[2 * i + 1] = c;
                row[head_dim_ + 2 * i] = -s;
                row[head_dim_ + 2 * i + 1] = s;
            }
}

void Step::check(const Span& span) const {
    if (span.start < 0 || span.length < 1 || span.start > FARTHEST || span.length > FARTHEST)
        refuse("a span of " + std::to_string(span.length) + " tokens at position " + std::to_string(span.start) +
               " cannot exist");
    if (!store_) return;
    const StoreShape& shape = store_->shape();
    const int64_t end = span.start + span.length;
    const int64_t needed = (end + shape.page - 1) / shape.page;
    if (static_cast<int64_t>(span.pages.size()) < needed)
        refuse("a sequence of " + std::to_string(end) + " tokens needs " + std::to_string(needed) + " pages of " +
               std::to_string(shape.page) + ", and has " + std::to_string(span.pages.size()));
    for (int32_t page : span.pages)
        if (page < 0 || page >= shape.pages)
            refuse("page " + std::to_string(page) + " is not one of the store's " + std::to_string(shape.pages));
}

}  // namespace llamero
