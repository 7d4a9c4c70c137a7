// Operations of a training step, and how they are shared out.
#include "training.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace llamero {

namespace {

constexpr int64_t PIECE = 64;  // rows of a chunk

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void same(const char* name, const Sheet& x, const Sheet& y) {
    if (x.kind != y.kind || x.rows != y.rows || x.cols != y.cols)
        refuse(std::string(name) + ": arrays of different types or shapes");
}

void floats(const char* name, const Sheet& x, int64_t rows, int64_t cols) {
    if (x.kind != Value::F32 || x.rows != rows || x.cols != cols)
        refuse(std::string(name) + ": expected floats of shape (" + std::to_string(rows) + ", " +
               std::to_string(cols) + ")");
}

float* floats_of(const Sheet& x) { return static_cast<float*>(x.data); }

}  // namespace

Crew::Crew(int threads, Fork fork) : threads_(threads), fork_(fork) {
    if (!fork) pool_ = std::make_unique<Pool>(threads);
}

Trainer::Trainer(int threads, const Kernels& kernels, Fork fork)
    : kernels_(kernels), crew_(threads, fork), scratch_(static_cast<size_t>(threads)) {}

// f(chunk, begin, end) for chunks of rows, the same ones whatever the number of threads.
template <class F>
void Trainer::by_rows(int64_t rows, const F& f) {
    crew_.run((rows + PIECE - 1) / PIECE,
              [&](int, int64_t chunk) { f(chunk, chunk * PIECE, std::min(rows, (chunk + 1) * PIECE)); });
}

void Trainer::norm(const Sheet& x, const Sheet& weight, const Sheet& y, const Sheet& inverse, float eps) {
    same("norm", x, y);
    floats("norm", weight, 1, x.cols);
    floats("norm", inverse, 1, x.rows);
    by_rows(x.rows, [&](int64_t, int64_t begin, int64_t end) {
        kernels_.training.norm(x.kind, x.row(begin), floats_of(weight), y.row(begin), floats_of(inverse) + begin,
                               end - begin, x.cols, eps);
    });
}

void Trainer::norm_back(const Sheet& x, const Sheet& weight, const Sheet& inverse, const Sheet& dy, const Sheet& dx,
                        const Sheet& dweight) {
    same("norm_back", x, dy);
    same("norm_back", x, dx);
    floats("norm_back", weight, 1, x.cols);
    floats("norm_back", inverse, 1, x.rows);
    floats("norm_back", dweight, 1, x.cols);
    const int64_t chunks = (x.rows + PIECE - 1) / PIECE;
    partial_.assign(static_cast<size_t>(chunks * x.cols), 0.0f);
    by_rows(x.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
        kernels_.training.norm_back(x.kind, x.row(begin), floats_of(weight), floats_of(inverse) + begin,
                                    dy.row(begin), dx.row(begin), partial_.data() + chunk * x.cols, end - begin,
                                    x.cols);
    });
    float* sums = floats_of(dweight);
    std::fill(sums, sums + x.cols, 0.0f);
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
        for (int64_t i = 0; i < x.cols; ++i) sums[i] += partial_[static_cast<size_t>(chunk * x.cols + i)];
}

void Trainer::turn(const Sheet& x, const Sheet& y, const Sheet& table, bool back) {
    same("turn", x, y);
    if (table.cols < 2 || table.cols % 4 != 0 || x.cols % (table.cols / 2) != 0)
        refuse("turn: the table does not fit the heads");
    floats("turn", table, x.rows, table.cols);
    by_rows(x.rows, [&](int64_t, int64_t begin, int64_t end) {
        kernels_.training.turn(x.kind, x.row(begin), y.row(begin), floats_of(table) + begin * table.cols,
                               back ? -1.0f : 1.0f, end - begin, x.cols, table.cols / 2);
    });
}

void Trainer::gate(const Sheet& gate, const Sheet& up, const Sheet& y) {
    same("gate", gate, up);
    same("gate", gate, y);
    by_rows(gate.rows, [&](int64_t, int64_t begin, int64_t end) {
        kernels_.training.gate(gate.kind, gate.row(begin), up.row(begin), y.row(begin), (end - begin) * gate.cols);
    });
}

void Trainer::gate_back(const Sheet& gate, const Sheet& up, const Sheet& dy, const Sheet& dgate, const Sheet& dup) {
    for (const Sheet* other : {&up, &dy, &dgate, &dup}) same("gate_back", gate, *other);
    by_rows(gate.rows, [&](int64_t, int64_t begin, int64_t end) {
        kernels_.training.gate_back(gate.kind, gate.row(begin), up.row(begin), dy.row(begin), dgate.row(begin),
                                    dup.row(begin), (end - begin) * gate.cols);
    });
}

void Trainer::cross_entropy(const Sheet& logits, const int64_t* targets, const Sheet* weights, float z_loss,
                            const Sheet& losses) {
    floats("cross_entropy", losses, 1, logits.rows);
    if (weights) floats("cross_entropy", *weights, 1, logits.rows);
    for (int64_t r = 0; r < logits.rows; ++r)
        if (targets[r] < 0 || targets[r] >= logits.cols)
            refuse("cross_entropy: target " + std::to_string(targets[r]) + " is not in a vocabulary of " +
                   std::to_string(logits.cols));
    crew_.run(logits.rows, [&](int, int64_t row) {
        kernels_.training.cross_entropy(logits.kind, logits.row(row), targets + row,
                                        weights ? floats_of(*weights) + row : nullptr, z_loss,
                                        floats_of(losses) + row, 1, logits.cols);
    });
}

// f(task, offsets of q and of k in values, scratch) for every sequence and key head.
template <class F>
void Trainer::by_heads(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths,
                       int64_t head_dim, const Sheet& normaliser, const F& f) {
    same("attend", k, v);
    if (q.kind != k.kind || q.rows != k.rows) refuse("attend: queries and keys of different types or numbers");
    if (head_dim < 1 || k.cols < head_dim || k.cols % head_dim != 0 || q.cols % k.cols != 0)
        refuse("attend: the widths are not whole heads");
    floats("attend", normaliser, q.cols / head_dim, q.rows);
    std::vector<int64_t> starts;
    int64_t total = 0, longest = 0;
    for (int64_t length : lengths) {
        if (length < 1 || length > q.rows - total) refuse("attend: the lengths are not those of the tokens");
        starts.push_back(total);
        total += length;
        longest = std::max(longest, length);
    }
    if (total != q.rows) refuse("attend: the lengths are not those of the tokens");
    for (Scratch& scratch : scratch_) scratch.reserve(kernels_.training.scratch_bytes(longest, head_dim));
    const int64_t key_heads = k.cols / head_dim, group = q.cols / k.cols, size = q.kind == Value::F32 ? 4 : 2;
    crew_.run(static_cast<int64_t>(lengths.size()) * key_heads, [&](int thread, int64_t chunk) {
        const size_t s = static_cast<size_t>(chunk / key_heads);
        const int64_t head = chunk % key_heads;
        const int64_t q_at = size * (starts[s] * q.cols + head * group * head_dim);
        const int64_t k_at = size * (starts[s] * k.cols + head * head_dim);
        const auto at = [](const Sheet& x, int64_t offset) { return static_cast<char*>(x.data) + offset; };
        AttendWhole task{};
        task.kind = q.kind;
        task.q = at(q, q_at), task.k = at(k, k_at), task.v = at(v, k_at);
        task.q_stride = q.cols, task.k_stride = k.cols;
        task.length = lengths[s], task.heads = group, task.head_dim = head_dim;
        task.normaliser = floats_of(normaliser) + head * group * q.rows + starts[s];
        task.normaliser_stride = q.rows;
        f(task, q_at, k_at, scratch_[static_cast<size_t>(thread)].data());
    });
}

void Trainer::attend(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths,
                     int64_t head_dim, const Sheet& out, const Sheet& normaliser) {
    same("attend", q, out);
    by_heads(q, k, v, lengths, head_dim, normaliser, [&](AttendWhole& task, int64_t q_at, int64_t, void* scratch) {
        task.out = static_cast<char*>(out.data) + q_at;
        kernels_.training.attend(task, scratch);
    });
}

void Trainer::attend_back(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths,
                          int64_t head_dim, const Sheet& normaliser, const Sheet& gradient, const Sheet& dq,
                          const Sheet& dk, const Sheet& dv) {
    same("attend_back", q, gradient);
    same("attend_back", q, dq);
    same("attend_back", k, dk);
    same("attend_back", k, dv);
    by_heads(q, k, v, lengths, head_dim, normaliser, [&](AttendWhole& task, int64_t q_at, int64_t k_at, void* scratch) {
        task.gradient = static_cast<const char*>(gradient.data) + q_at;
        task.dq = static_cast<char*>(dq.data) + q_at;
        task.dk = static_cast<char*>(dk.data) + k_at;
        task.dv = static_cast<char*>(dv.data) + k_at;
        kernels_.training.attend_back(task, scratch);
    });
}

}  // namespace llamero
