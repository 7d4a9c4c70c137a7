// Tests the core without Python: every level that runs here against plain loops, and the pool against counting.
// For processors that tests/ops/test_agree.py cannot reach, and for sanitizers: see .ci/cross-aarch64, .ci/sanitize.
#include "native_check.h"

#include <cmath>

using namespace check;

namespace {

std::mt19937 generator(1);

std::vector<float> normal(int64_t count) { return check::normal(generator, count); }

// Every operation also runs on one thread alone, which must not change a bit.
struct Pair {
    Machine machine, alone;
    Pair(int threads, const Kernels& kernels) : machine(threads, kernels), alone(1, kernels) {}
};

void check_product(Pair& pair, const Matrix& w, int64_t n, double tolerance) {
    const std::vector<float> x = normal(n * w.k);
    const Matrix* weights[] = {&w};
    const std::vector<Array> y = pair.machine.matmul(array_of(pair.machine, x, w.k), weights, 1);
    std::vector<float> row(static_cast<size_t>(w.k));
    double worst = 0;
    for (int64_t j = 0; j < w.rows; ++j) {
        pair.machine.kernels().products.decode(w.type, w.data + j * w.row_bytes, row.data(), w.k);
        for (int64_t i = 0; i < n; ++i) {
            double want = 0, xx = 0, ww = 0;
            for (int64_t k = 0; k < w.k; ++k) {
                const double a = x[static_cast<size_t>(i * w.k + k)], b = row[static_cast<size_t>(k)];
                want += a * b;
                xx += a * a;
                ww += b * b;
            }
            const double length = std::sqrt(xx * ww), error = std::fabs(want - y[0].data()[i * w.rows + j]);
            worst = std::max(worst, length > 0 ? error / length : error);
        }
    }
    const int type = static_cast<int>(w.type);
    expect(worst < tolerance, pair.machine, "product of type, rows of x", type, n, worst);
    const std::vector<Array> z = pair.alone.matmul(array_of(pair.alone, x, w.k), weights, 1);
    expect(same(y[0], z[0]), pair.machine, "threads change the product of type, rows of x", type, n, 0);
}

void check_products(Pair& pair) {
    constexpr struct {
        int64_t n, rows;
    } sizes[] = {{1, 301}, {2, 33}, {3, 301}, {4, 1}, {5, 33}, {9, 70}, {17, 33}, {70, 34}};
    for (const auto& size : sizes)
        for (const Stored& stored : STORED) {
            const std::vector<int64_t> ks = stored.values == 1    ? std::vector<int64_t>{1, 31, 257}
                                            : stored.values == 32 ? std::vector<int64_t>{32, 96, 256, 288, 768}
                                                                  : std::vector<int64_t>{256, 768};
            for (int64_t k : ks) {
                const size_t lead = stored.values == 1 ? 0 : static_cast<size_t>(k / 32 % 2);
                const Weights w(generator, stored, size.rows, k, lead);
                check_product(pair, w.matrix(), size.n, stored.tolerance);
            }
        }
}

// What two adapters add to some rows of a product, beside sums in doubles; a row alone gets the same bits.
void check_low_rank(Pair& pair) {
    constexpr struct {
        int64_t n, k, out, rank;
    } sizes[] = {{1, 33, 7, 1}, {2, 64, 300, 5}, {5, 257, 1030, 16}, {40, 96, 65, 9}};
    for (const Stored& stored : STORED) {
        if (stored.values != 1) continue;
        for (const auto& size : sizes) {
            const std::vector<float> x = normal(size.n * size.k), y = normal(size.n * size.out);
            std::vector<Weights> a, b;
            std::vector<int64_t> rows[2];
            for (int64_t i = 0; i < size.n; ++i)
                if (i % 3 < 2) rows[i % 3].push_back(i);
            for (size_t lead : {0, 1}) {
                a.emplace_back(generator, stored, size.rank, size.k, lead);
                b.emplace_back(generator, stored, size.rank, size.out, lead);
            }
            const auto changed = [&](Machine& machine, const std::vector<int64_t> (&some)[2]) {
                Array found = array_of(machine, y, size.out);
                std::vector<Machine::Change> changes;
                for (size_t i = 0; i < 2; ++i)
                    if (!some[i].empty()) changes.push_back({&found, some[i], &a[i].matrix(), &b[i].matrix()});
                machine.add_low_rank(array_of(machine, x, size.k), changes);
                return found;
            };
            const Array found = changed(pair.machine, rows);
            std::vector<float> from(static_cast<size_t>(size.k)), to(static_cast<size_t>(size.out));
            std::vector<double> want(y.begin(), y.end()), scale(y.size(), 1.0);
            for (size_t c = 0; c < 2; ++c)
                for (int64_t r = 0; r < size.rank; ++r) {
                    const Matrix &w = a[c].matrix(), &v = b[c].matrix();
                    pair.machine.kernels().products.decode(w.type, w.data + r * w.row_bytes, from.data(), size.k);
                    pair.machine.kernels().products.decode(v.type, v.data + r * v.row_bytes, to.data(), size.out);
                    for (int64_t i : rows[c]) {
                        double low = 0;
                        for (int64_t k = 0; k < size.k; ++k)
                            low += double(x[static_cast<size_t>(i * size.k + k)]) * from[static_cast<size_t>(k)];
                        for (int64_t j = 0; j < size.out; ++j) {
                            const size_t at = static_cast<size_t>(i * size.out + j);
                            want[at] += low * to[static_cast<size_t>(j)];
                            scale[at] += std::fabs(low * to[static_cast<size_t>(j)]);
                        }
                    }
                }
            double worst = 0;
            for (size_t i = 0; i < want.size(); ++i)
                worst = std::max(worst, std::fabs(want[i] - found.data()[i]) / scale[i]);
            const int type = static_cast<int>(stored.type);
            expect(worst < 1e-4, pair.machine, "low-rank change of type, rows", type, size.n, worst);
            expect(same(found, changed(pair.alone, rows)), pair.machine, "threads change low rank of type, rows", type,
                   size.n, 0);
            const int64_t last = rows[0].back();
            const Array single = changed(pair.machine, {{last}, {}});
            expect(memcmp(found.data() + last * size.out, single.data() + last * size.out,
                          sizeof(float) * static_cast<size_t>(size.out)) == 0,
                   pair.machine, "others change a row's low rank of type, rows", type, size.n, 0);
        }
    }
}

void check_embedding(Pair& pair) {
    for (const Stored& stored : STORED) {
        const Weights weights(generator, stored, 3, 256);
        const Matrix& w = weights.matrix();
        std::vector<int64_t> ids;
        for (int64_t i = 0; i < 300; ++i) ids.push_back(i * 7 % 3);
        const Array got = pair.machine.embed(w, ids);
        std::vector<float> row(256);
        for (int64_t i = 0; i < 300; ++i) {
            pair.machine.kernels().products.decode(w.type, w.data + i * 7 % 3 * w.row_bytes, row.data(), 256);
            expect(memcmp(row.data(), got.data() + i * 256, 1024) == 0, pair.machine, "embedding of type, token",
                   static_cast<int>(w.type), i, 0);
        }
    }
}

void check_rows(Pair& pair) {
    Machine& machine = pair.machine;
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

void check_rotation(Pair& pair) {
    for (int64_t dim : {2, 6, 20, 64, 128}) {
        const int64_t cols = 14 * dim, tokens = 60, start = 1000;
        std::vector<double> inv;
        for (int64_t i = 0; i < dim / 2; ++i) inv.push_back(std::pow(10000.0, -2.0 * double(i) / double(dim)));
        const Step step(nullptr, {{start, tokens, {}}}, inv.data(), dim / 2);
        const std::vector<float> x = normal(tokens * cols);
        const Array got = pair.machine.rope(array_of(pair.machine, x, cols), step);
        double worst = 0;
        for (int64_t i = 0; i < tokens * cols; i += 2) {
            const double angle = double(start + i / cols) * inv[size_t(i % dim / 2)];
            const double a = x[size_t(i)], b = x[size_t(i + 1)], c = std::cos(angle), s = std::sin(angle);
            worst = std::max(worst, std::fabs(got.data()[i] - (a * c - b * s)));
            worst = std::max(worst, std::fabs(got.data()[i + 1] - (a * s + b * c)));
        }
        expect(worst < 2e-5, pair.machine, "rotation of head_dim", dim, start, worst);
    }
}

// The past of one sequence as plain floats, and where a store keeps it.
struct Sequence {
    std::vector<float> keys, values;
    std::vector<int32_t> pages;
    int64_t start = 0;

    // One head of one query over the first `seen` tokens.
    std::vector<double> attend(const float* q, int64_t seen, int64_t at, int64_t dim, int64_t stride) const {
        std::vector<double> mixed(static_cast<size_t>(dim), 0.0);
        double total = 0;
        for (int64_t t = 0; t < seen; ++t) {
            const float *key = &keys[size_t(t * stride + at)], *value = &values[size_t(t * stride + at)];
            double score = 0;
            for (int64_t d = 0; d < dim; ++d) score += double(q[d]) * key[d];
            const double p = std::exp(score / std::sqrt(double(dim)));
            total += p;
            for (int64_t d = 0; d < dim; ++d) mixed[size_t(d)] += p * value[d];
        }
        for (double& value : mixed) value /= total;
        return mixed;
    }
};

struct Heads {
    int64_t dim, group;
    CacheKind kind;
    int64_t page;
    double tolerance;
};

constexpr int64_t KV_HEADS = 2;

// One step of so many tokens of each sequence.
void check_step(Pair& pair, const Heads& heads, std::shared_ptr<Store> store, std::vector<Sequence>& sequences,
                const std::vector<int64_t>& lengths) {
    const int64_t kv_cols = KV_HEADS * heads.dim, q_cols = kv_cols * heads.group;
    std::vector<Span> spans;
    int64_t tokens = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
        spans.push_back({sequences[s].start, lengths[s], sequences[s].pages});
        tokens += lengths[s];
    }
    const std::vector<double> inv(static_cast<size_t>(heads.dim / 2), 0.5);
    const Step step(store, spans, inv.data(), heads.dim / 2);
    const std::vector<float> q = normal(tokens * q_cols), k = normal(tokens * kv_cols), v = normal(tokens * kv_cols);
    const auto run = [&](Machine& machine) {
        return machine.attention(array_of(machine, q, q_cols), array_of(machine, k, kv_cols),
                                 array_of(machine, v, kv_cols), step, 0);
    };
    const Array got = run(pair.machine);
    expect(same(got, run(pair.alone)), pair.machine, "threads change attention with head_dim", heads.dim, tokens, 0);
    double worst = 0;
    int64_t token = 0;
    for (size_t s = 0; s < sequences.size(); ++s) {
        Sequence& sequence = sequences[s];
        const auto part = [&](const std::vector<float>& rows) { return rows.begin() + token * kv_cols; };
        sequence.keys.insert(sequence.keys.end(), part(k), part(k) + lengths[s] * kv_cols);
        sequence.values.insert(sequence.values.end(), part(v), part(v) + lengths[s] * kv_cols);
        for (int64_t i = 0; i < lengths[s]; ++i, ++token)
            for (int64_t h = 0; h < KV_HEADS * heads.group; ++h) {
                const int64_t at = token * q_cols + h * heads.dim;
                const std::vector<double> want = sequence.attend(&q[size_t(at)], sequence.start + i + 1,
                                                                 h / heads.group * heads.dim, heads.dim, kv_cols);
                for (int64_t d = 0; d < heads.dim; ++d) {
                    const double error = std::fabs(want[size_t(d)] - got.data()[at + d]);
                    worst = error <= worst ? worst : error;  // not a number stays
                }
            }
        sequence.start += lengths[s];
    }
    expect(worst < heads.tolerance, pair.machine, "attention with head_dim, tokens", heads.dim, tokens, worst);
}

// Two sequences in steps through a paged store; what nobody has written there is not a number. Then without a store.
void check_attention(Pair& pair, const Heads& heads) {
    const int64_t pages = 1024 / heads.page;
    const auto store = std::make_shared<Store>(StoreShape{1, KV_HEADS, heads.dim, pages, heads.page, heads.kind});
    memset(store->keys(0), 0xff, static_cast<size_t>(store->bytes()));
    std::vector<Sequence> sequences(2);
    for (int64_t i = 0; i < pages; ++i)
        sequences[size_t(i % 3 == 0)].pages.push_back(static_cast<int32_t>((i * 29 + 5) % pages));
    for (const auto& lengths : {std::vector<int64_t>{70, 3}, {1, 1}, {530, 2}, {2, 40}})
        check_step(pair, heads, store, sequences, lengths);
    std::vector<Sequence> fresh(2);
    check_step(pair, heads, nullptr, fresh, {40, 1});
}

void check_level(int threads, const Kernels& level) {
    Pair pair(threads, level);
    check_rows(pair);
    check_rotation(pair);
    check_low_rank(pair);
    check_embedding(pair);
    check_products(pair);
    check_attention(pair, {64, 1, CacheKind::F32, 16, 2e-5});
    check_attention(pair, {64, 2, CacheKind::F16, 64, 2e-3});
    check_attention(pair, {32, 3, CacheKind::Q8_0, 1, 3e-2});
    check_attention(pair, {128, 1, CacheKind::Q8_0, 16, 3e-2});
    check_attention(pair, {20, 8, CacheKind::F16, 8, 2e-3});
    check_attention(pair, {6, 1, CacheKind::F32, 16, 2e-5});
    std::printf("%s, %d threads: checked\n", level.level, threads);
}

}  // namespace

int main() {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // into a log, too, line by line
    check_launcher();
    std::printf("launcher: checked\n");
    check_threads();
    std::printf("threads: checked\n");
    for (const Kernels* const* level = levels(); *level; ++level)
        for (int threads : {1, 2, 5}) check_level(threads, **level);
    std::printf("%d failures\n", failures.load());
    return failures != 0;
}
