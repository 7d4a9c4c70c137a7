// Tests the core without Python: every level that runs here against plain loops, and the pool against counting.
// For processors that tests/ops/test_agree.py cannot reach: .ci/cross-aarch64 runs it in an emulator.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "machine.h"

using namespace llamero;

namespace {

std::mt19937 generator(1);
int failures = 0;

std::vector<float> normal(int64_t count) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = distribution(generator);
    return values;
}

Array array_of(Machine& machine, const std::vector<float>& values, int64_t cols) {
    Array out = machine.array(static_cast<int64_t>(values.size()) / cols, cols);
    std::copy(values.begin(), values.end(), out.data());
    return out;
}

void expect(bool fine, const Machine& machine, const char* what, int64_t a, int64_t b, double error) {
    if (fine) return;
    ++failures;
    std::printf("FAILED %s, %d threads: %s %lld %lld, error %g\n", machine.kernels().level, machine.threads(), what,
                static_cast<long long>(a), static_cast<long long>(b), error);
}

// A weight of blocks with random contents and harmless scales: byte patterns that each type's blocks accept.
struct Stored {
    int type;
    int64_t block_bytes;
    std::vector<int> halves;  // offsets of half-precision scales in a block
};

const Stored STORED[] = {
    {2, 18, {0}},     {3, 20, {0, 2}},   {6, 22, {0}},      {7, 24, {0, 2}},  {8, 34, {0}},  {10, 84, {80, 82}},
    {11, 110, {108}}, {12, 144, {0, 2}}, {13, 176, {0, 2}}, {14, 210, {208}}, {20, 18, {0}}, {23, 136, {0}},
};

std::vector<uint8_t> random_blocks(const Stored& stored, int64_t bytes) {
    std::vector<uint8_t> data(static_cast<size_t>(bytes));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(generator());
    for (int64_t at = 0; at < bytes; at += stored.block_bytes)
        for (int half : stored.halves) {
            const uint16_t scale = static_cast<uint16_t>(0x2c00 + generator() % 0x400);  // 1/16 to 1/8
            memcpy(&data[static_cast<size_t>(at + half)], &scale, 2);
        }
    return data;
}

void check_product(Machine& machine, const Matrix& w, int64_t n, double tolerance) {
    const std::vector<float> x = normal(n * w.k);
    const Matrix* weights[] = {&w};
    const std::vector<Array> y = machine.matmul(array_of(machine, x, w.k), weights, 1);
    std::vector<float> row(static_cast<size_t>(w.k));
    double worst = 0;
    for (int64_t j = 0; j < w.rows; ++j) {
        machine.kernels().products.decode(w.type, w.data + j * w.row_bytes, row.data(), w.k);
        for (int64_t i = 0; i < n; ++i) {
            double want = 0, xx = 0, ww = 0;
            for (int64_t k = 0; k < w.k; ++k) {
                const double a = x[static_cast<size_t>(i * w.k + k)], b = row[static_cast<size_t>(k)];
                want += a * b;
                xx += a * a;
                ww += b * b;
            }
            worst = std::max(worst, std::fabs(want - y[0].data()[i * w.rows + j]) / std::sqrt(xx * ww));
        }
    }
    expect(worst < tolerance, machine, "product of type, rows of x", static_cast<int>(w.type), n, worst);
}

void check_products(Machine& machine) {
    for (int64_t n : {1, 2, 5, 9, 17, 70}) {
        for (const Stored& stored : STORED)
            for (int64_t k : {256, 768}) {
                const int64_t bytes = matrix_bytes(stored.type, 33, k);
                const std::vector<uint8_t> data = random_blocks(stored, bytes);
                check_product(machine, {static_cast<Type>(stored.type), 33, k, bytes / 33, data.data()}, n, 1e-2);
            }
        const std::vector<float> floats = normal(33 * 257);
        check_product(machine, {Type::F32, 33, 257, 4 * 257, reinterpret_cast<const uint8_t*>(floats.data())}, n, 2e-6);
        std::vector<uint16_t> halves(33 * 257);
        for (uint16_t& half : halves)
            half = static_cast<uint16_t>((generator() & 0x8000) | (0x3000 + generator() % 0xc00));
        const uint8_t* bytes = reinterpret_cast<const uint8_t*>(halves.data());
        check_product(machine, {Type::F16, 33, 257, 2 * 257, bytes}, n, 2e-6);
        check_product(machine, {Type::BF16, 33, 257, 2 * 257, bytes}, n, 1e-2);
    }
}

void check_rows(Machine& machine) {
    for (int64_t cols : {1, 6, 64, 999}) {
        const std::vector<float> x = normal(60 * cols), y = normal(60 * cols), w = normal(cols);
        const Array a = array_of(machine, x, cols), b = array_of(machine, y, cols);
        const Array norm = machine.rms_norm(a, w.data(), cols, 1e-5f), gate = machine.swiglu(a, b),
                    sum = machine.add(a, b);
        double worst = 0;
        for (int64_t i = 0; i < 60; ++i) {
            double squares = 0;
            for (int64_t j = 0; j < cols; ++j) squares += double(x[size_t(i * cols + j)]) * x[size_t(i * cols + j)];
            for (int64_t j = 0; j < cols; ++j) {
                const size_t at = static_cast<size_t>(i * cols + j);
                const double p = x[at], q = y[at], scale = 1 / std::sqrt(squares / double(cols) + 1e-5);
                worst = std::max(worst, std::fabs(norm.data()[at] - p * scale * w[size_t(j)]));
                worst = std::max(worst, std::fabs(gate.data()[at] - p / (1 + std::exp(-p)) * q));
                worst = std::max(worst, std::fabs(sum.data()[at] - (p + q)));
            }
        }
        expect(worst < 2e-5, machine, "rows of", cols, 60, worst);
    }
}

// One sequence in three steps through a paged store; the plain loop sees what the store rounds to.
void check_attention(Machine& machine, int64_t dim, int64_t group, CacheKind kind, double tolerance) {
    const int64_t kv_heads = 2, page = 16;
    auto store = std::make_shared<Store>(StoreShape{1, kv_heads, dim, 64, page, kind});
    std::vector<int32_t> pages;
    for (int32_t i = 0; i < 64; ++i) pages.push_back(i * 29 % 64);
    std::vector<double> inv(static_cast<size_t>(dim / 2), 0.5);
    std::vector<float> keys, values;
    int64_t start = 0;
    for (int64_t length : {70, 1, 530, 2}) {
        const Step step(store, {{start, length, pages}}, inv.data(), dim / 2);
        const std::vector<float> q = normal(length * kv_heads * group * dim), k = normal(length * kv_heads * dim);
        const std::vector<float> v = normal(length * kv_heads * dim);
        keys.insert(keys.end(), k.begin(), k.end());
        values.insert(values.end(), v.begin(), v.end());
        const int64_t q_cols = kv_heads * group * dim, kv_cols = kv_heads * dim;
        const Array got = machine.attention(array_of(machine, q, q_cols), array_of(machine, k, kv_cols),
                                            array_of(machine, v, kv_cols), step, 0);
        double worst = 0;
        for (int64_t i = 0; i < length; ++i)
            for (int64_t h = 0; h < kv_heads * group; ++h) {
                const int64_t seen = start + i + 1, at = h / group * dim;
                std::vector<double> mixed(static_cast<size_t>(dim), 0.0);
                double total = 0;
                for (int64_t t = 0; t < seen; ++t) {
                    double score = 0;
                    for (int64_t d = 0; d < dim; ++d)
                        score += double(q[size_t(i * q_cols + h * dim + d)]) * keys[size_t(t * kv_cols + at + d)];
                    const double p = std::exp(score / std::sqrt(double(dim)));
                    total += p;
                    for (int64_t d = 0; d < dim; ++d) mixed[size_t(d)] += p * values[size_t(t * kv_cols + at + d)];
                }
                for (int64_t d = 0; d < dim; ++d)
                    worst = std::max(worst, std::fabs(mixed[size_t(d)] / total - got.data()[i * q_cols + h * dim + d]));
            }
        expect(worst < tolerance, machine, "attention with head_dim, context", dim, start + length, worst);
        start += length;
    }
}

void check_pool() {
    for (int threads : {1, 2, 5}) {
        Pool pool(threads);
        for (int64_t chunks : {0, 1, 2, 3, 100, 1000})
            for (int repeat = 0; repeat < 200; ++repeat) {
                std::vector<std::atomic<int>> claimed(static_cast<size_t>(chunks));
                pool.run(chunks, [&](int thread, int64_t chunk) {
                    claimed[static_cast<size_t>(chunk)] += thread >= 0 && thread < threads ? 1 : 100;
                });
                for (const auto& count : claimed)
                    if (count != 1) ++failures;
            }
    }
}

}  // namespace

int main() {
    check_pool();
    for (const Kernels* const* level = levels(); *level; ++level)
        for (int threads : {1, 3}) {
            Machine machine(threads, **level);
            check_rows(machine);
            check_products(machine);
            check_attention(machine, 64, 1, CacheKind::F32, 2e-5);
            check_attention(machine, 64, 2, CacheKind::F16, 2e-3);
            check_attention(machine, 32, 3, CacheKind::Q8_0, 3e-2);
            check_attention(machine, 20, 8, CacheKind::F16, 2e-3);
            std::printf("%s, %d threads: checked\n", machine.kernels().level, threads);
        }
    std::printf("%d failures\n", failures);
    return failures != 0;
}
