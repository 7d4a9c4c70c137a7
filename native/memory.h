// Memory for activations: arrays that give their memory back to the heap they came from, and scratch that grows.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace llamero {

// Blocks of memory kept for the next taker, so that a step allocates nothing that the step before has freed.
class Heap {
public:
    Heap() = default;
    ~Heap();
    Heap(const Heap&) = delete;
    Heap& operator=(const Heap&) = delete;

    // At least `bytes`, 64-byte aligned, contents undefined. Throws std::bad_alloc.
    void* take(size_t bytes);
    void give(void* block, size_t bytes) noexcept;

private:
    static constexpr int CLASSES = 256;  // four sizes to each power of two
    std::mutex mutex_;
    size_t kept_ = 0;
    std::array<std::vector<void*>, CLASSES> free_;
};

// Rows of floats, one after another. Moves, and is never copied.
class Array {
public:
    Array(std::shared_ptr<Heap> heap, int64_t rows, int64_t cols);
    ~Array();
    Array(Array&& other) noexcept;
    Array& operator=(Array&&) = delete;
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;

    int64_t rows() const { return rows_; }
    int64_t cols() const { return cols_; }
    int64_t size() const { return rows_ * cols_; }
    float* data() { return data_; }
    const float* data() const { return data_; }

private:
    std::shared_ptr<Heap> heap_;
    float* data_;
    int64_t rows_, cols_;
};

// 64-byte aligned memory that only grows; growing loses its contents.
class Scratch {
public:
    Scratch() = default;
    ~Scratch();
    Scratch(Scratch&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr; }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    void* reserve(size_t bytes);
    void* data() { return data_; }

private:
    void* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace llamero
