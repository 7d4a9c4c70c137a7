// The operations of a training step beside its products, shared out over threads. Checks shapes
// (std::invalid_argument), so that no call can reach beyond an array. Knows nothing of Python or torch.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "threads.h"

namespace llamero {

// Starts `body(data)` on so many threads, the caller's among them, and waits for all: OpenMP's own way of it.
typedef void (*Fork)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

// Threads that share out chunks: somebody else's, who would spin beside ours otherwise, or a pool of our own.
class Crew {
public:
    Crew(int threads, Fork fork);

    int threads() const { return threads_; }

    // body(thread, chunk) for every chunk in [0, chunks), each exactly once.
    template <class F>
    void run(int64_t chunks, const F& body) {
        if (pool_) return pool_->run(chunks, body);
        if (threads_ == 1 || chunks < 2) {
            for (int64_t chunk = 0; chunk < chunks; ++chunk) body(0, chunk);
            return;
        }
        Job<F> job{body, chunks, {0}, {0}};
        fork_(Job<F>::work, &job, static_cast<unsigned>(threads_), 0);
    }

private:
    template <class F>
    struct Job {
        const F& body;
        int64_t chunks;
        std::atomic<int64_t> next;
        std::atomic<int> thread;

        static void work(void* data) {
            Job& job = *static_cast<Job*>(data);
            const int thread = job.thread++;
            for (int64_t chunk; (chunk = job.next++) < job.chunks;) job.body(thread, chunk);
        }
    };

    int threads_;
    Fork fork_;
    std::unique_ptr<Pool> pool_;
};

// Rows of values in memory that the caller keeps.
struct Sheet {
    Value kind;
    int64_t rows, cols;
    void* data;

    int64_t bytes() const { return rows * cols * (kind == Value::F32 ? 4 : 2); }
    void* row(int64_t index) const { return static_cast<char*>(data) + index * cols * (kind == Value::F32 ? 4 : 2); }
};

// One caller at a time: lock door() around the call. Results depend neither on the threads nor on their order.
class Trainer {
public:
    Trainer(int threads, const Kernels& kernels, Fork fork);

    std::mutex& door() { return door_; }

    void norm(const Sheet& x, const Sheet& weight, const Sheet& y, const Sheet& inverse, float eps);
    void norm_back(const Sheet& x, const Sheet& weight, const Sheet& inverse, const Sheet& dy, const Sheet& dx,
                   const Sheet& dweight);
    void turn(const Sheet& x, const Sheet& y, const Sheet& table, bool back);
    void gate(const Sheet& gate, const Sheet& up, const Sheet& y);
    void gate_back(const Sheet& gate, const Sheet& up, const Sheet& dy, const Sheet& dgate, const Sheet& dup);
    // weights: null where the loss alone is wanted.
    void cross_entropy(const Sheet& logits, const int64_t* targets, const Sheet* weights, float z_loss,
                       const Sheet& losses);
    // normaliser: (heads, tokens).
    void attend(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths, int64_t head_dim,
                const Sheet& out, const Sheet& normaliser);
    void attend_back(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths,
                     int64_t head_dim, const Sheet& normaliser, const Sheet& gradient, const Sheet& dq,
                     const Sheet& dk, const Sheet& dv);

private:
    template <class F>
    void by_rows(int64_t rows, const F& f);
    template <class F>
    void by_heads(const Sheet& q, const Sheet& k, const Sheet& v, const std::vector<int64_t>& lengths,
                  int64_t head_dim, const Sheet& normaliser, const F& f);

    const Kernels& kernels_;
    Crew crew_;
    std::mutex door_;
    std::vector<Scratch> scratch_;  // one per thread
    std::vector<float> partial_;
};

}  // namespace llamero
