// Size classes, a free list for each, and a limit on what is kept.
#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#include "poison.h"

namespace llamero {

namespace {

constexpr size_t LINE = 64;
constexpr size_t HUGE_PAGE = size_t(2) << 20;
constexpr size_t KEEP = size_t(256) << 20;  // bytes of free blocks worth holding on to

// The size class of a request, and the bytes that blocks of the class have: 4, 5, 6 or 7 times a power of two.
struct Class {
    int index;
    size_t bytes;
};

Class class_of(size_t bytes) {
    if (bytes < 256) bytes = 256;
    const int top = 63 - __builtin_clzll(bytes - 1);  // 2^top <= bytes - 1 < 2^(top + 1)
    const size_t step = size_t(1) << (top - 2);
    const size_t steps = (bytes + step - 1) / step;  // 5 to 8 of them
    return {4 * top + static_cast<int>(steps) - 5, steps * step};
}

// Where rows lie far apart, each touch of another row costs a look-up of its page, unless pages are huge.
void* allocate(size_t bytes) {
    const size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE;
    void* block = std::aligned_alloc(align, (bytes + align - 1) / align * align);
    if (!block) throw std::bad_alloc();
#if defined(__linux__)
    if (align == HUGE_PAGE) madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return block;
}

size_t array_bytes(int64_t rows, int64_t cols) {
    int64_t count, bytes;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &count) ||
        __builtin_mul_overflow(count, int64_t(sizeof(float)), &bytes) || bytes > int64_t(1) << 46)
        throw std::invalid_argument("an array of that size cannot exist");
    return static_cast<size_t>(bytes);
}

}  // namespace

Heap::~Heap() {
    for (std::vector<void*>& blocks : free_)
        for (void* block : blocks) std::free(block);
}

void* Heap::take(size_t bytes) {
    const Class size = class_of(bytes);
    {
        std::lock_guard<std::mutex> lock(mutex_);
        std::vector<void*>& blocks = free_[static_cast<size_t>(size.index)];
        if (!blocks.empty()) {
            void* block = blocks.back();
            blocks.pop_back();
            kept_ -= size.bytes;
            poison_after(block, bytes, size.bytes);
            return block;
        }
    }
    void* block = allocate(size.bytes);
    poison_after(block, bytes, size.bytes);
    return block;
}

void Heap::give(void* block, size_t bytes) noexcept {
    const Class size = class_of(bytes);
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (kept_ + size.bytes <= KEEP) {
            try {
                free_[static_cast<size_t>(size.index)].push_back(block);
                kept_ += size.bytes;
                poison_after(block, 0, size.bytes);
                return;
            } catch (const std::bad_alloc&) {
            }
        }
    }
    std::free(block);
}

Array::Array(std::shared_ptr<Heap> heap, int64_t rows, int64_t cols)
    : heap_(std::move(heap)),
      data_(static_cast<float*>(heap_->take(array_bytes(rows, cols)))),
      rows_(rows),
      cols_(cols) {}

Array::Array(Array&& other) noexcept
    : heap_(std::move(other.heap_)), data_(other.data_), rows_(other.rows_), cols_(other.cols_) {
    other.data_ = nullptr;
}

Array::~Array() {
    if (data_) heap_->give(data_, array_bytes(rows_, cols_));
}

Scratch::~Scratch() { std::free(data_); }

void* Scratch::reserve(size_t bytes) {
    if (bytes > bytes_) {
        void* larger = allocate(bytes + bytes / 4);
        std::free(data_);
        data_ = larger;
        bytes_ = bytes + bytes / 4;
    }
    if (data_) poison_after(data_, bytes, bytes_);
    return data_;
}

}  // namespace llamero
