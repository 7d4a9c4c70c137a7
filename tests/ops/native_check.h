// What the parts of native_check share: counting failures, random arrays and weights.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "machine.h"

namespace check {

using namespace llamero;

inline std::atomic<int> failures{0};

inline void expect(bool fine, const Machine& machine, const char* what, int64_t a, int64_t b, double error) {
    if (fine) return;
    ++failures;
    std::printf("FAILED %s, %d threads: %s %lld %lld, error %g\n", machine.kernels().level, machine.threads(), what,
                static_cast<long long>(a), static_cast<long long>(b), error);
}

inline void expect(bool fine, const char* what, int64_t a) {
    if (fine) return;
    ++failures;
    std::printf("FAILED %s %lld\n", what, static_cast<long long>(a));
}

inline bool same(const Array& a, const Array& b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), sizeof(float) * static_cast<size_t>(a.size())) == 0;
}

inline std::vector<float> normal(std::mt19937& generator, int64_t count) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = distribution(generator);
    return values;
}

inline Array array_of(Machine& machine, const std::vector<float>& values, int64_t cols) {
    Array out = machine.array(static_cast<int64_t>(values.size()) / cols, cols);
    std::copy(values.begin(), values.end(), out.data());
    return out;
}

// A type of weight: the block's values, and the offsets of the half-precision scales in it.
struct Stored {
    Type type;
    int64_t values;
    std::vector<size_t> halves;
    double tolerance;  // of products, of the length of both vectors
};

inline const Stored STORED[] = {
    {Type::F32, 1, {}, 2e-6},          {Type::F16, 1, {}, 5e-4},        {Type::BF16, 1, {}, 4e-3},
    {Type::Q4_0, 32, {0}, 1e-2},       {Type::Q4_1, 32, {0, 2}, 1e-2},  {Type::Q5_0, 32, {0}, 1e-2},
    {Type::Q5_1, 32, {0, 2}, 1e-2},    {Type::Q8_0, 32, {0}, 1e-2},     {Type::IQ4_NL, 32, {0}, 1e-2},
    {Type::Q2_K, 256, {80, 82}, 1e-2}, {Type::Q3_K, 256, {108}, 1e-2},  {Type::Q4_K, 256, {0, 2}, 1e-2},
    {Type::Q5_K, 256, {0, 2}, 1e-2},   {Type::Q6_K, 256, {208}, 1e-2},  {Type::IQ4_XS, 256, {0}, 1e-2},
};

// Random weights with harmless scales, in memory that ends with the last of them and starts at any address.
class Weights {
public:
    Weights(std::mt19937& generator, const Stored& stored, int64_t rows, int64_t k, size_t lead = 0) {
        const int64_t bytes = matrix_bytes(static_cast<int>(stored.type), rows, k);
        memory_.resize(lead + static_cast<size_t>(bytes));
        uint8_t* data = memory_.data() + lead;
        if (stored.type == Type::F32) {
            memcpy(data, normal(generator, rows * k).data(), static_cast<size_t>(bytes));
        } else if (stored.values == 1) {  // 1/8 to 1 as halves; as bfloats something far smaller
            for (int64_t i = 0; i < bytes; i += 2)
                put(data + i, (generator() & 0x8000) | (0x3000 + generator() % 0xc00));
        } else {
            for (int64_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(generator());
            const int64_t block = bytes / (rows * k / stored.values);
            for (int64_t i = 0; i < bytes; i += block)
                for (size_t half : stored.halves) put(data + i + half, 0x2c00 + generator() % 0x400);  // 1/16 to 1/8
        }
        matrix_ = {stored.type, rows, k, bytes / rows, data};
    }
    const Matrix& matrix() const { return matrix_; }

private:
    static void put(uint8_t* p, size_t bits) {
        const uint16_t half = static_cast<uint16_t>(bits);
        memcpy(p, &half, 2);
    }
    std::vector<uint8_t> memory_;
    Matrix matrix_;
};

void check_launcher();  // launcher_check.cpp
void check_threads();   // threads_check.cpp

}  // namespace check
