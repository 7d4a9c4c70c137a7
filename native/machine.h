// The operations of a Llama on one processor: shares every operation out over a pool of threads, where that pays.
// Checks shapes (std::invalid_argument), so that no call can reach beyond an array. Knows nothing of Python or files.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.h"
#include "memory.h"
#include "store.h"
#include "threads.h"

namespace llamero {

// Bytes that `rows` rows of k values take in a weight's layout; throws std::invalid_argument for a type without
// kernels, for k that is not whole blocks, and for sizes beyond any machine.
int64_t matrix_bytes(int type, int64_t rows, int64_t k);

// One caller at a time for all that says so: lock door() around the call. Machines share nothing.
class Machine {
public:
    Machine(int threads, const Kernels& kernels);

    int threads() const { return pool_.threads(); }
    const Kernels& kernels() const { return kernels_; }
    std::mutex& door() { return door_; }

    // From now on no bit of a token's results depends on the tokens beside it: a prompt in pieces gives what it gives
    // whole. Prompts, and writing after a long context, get slower.
    void set_deterministic(bool on) { deterministic_ = on; }

    // Whether an operation that touches so many floats is shared out, and so needs the door.
    bool shares(int64_t floats) const { return threads() > 1 && floats > 48 * 1024; }

    Array array(int64_t rows, int64_t cols) { return Array(heap_, rows, cols); }

    // With the door locked where shares(size of the result).
    Array embed(const Matrix& table, const std::vector<int64_t>& ids);
    Array rms_norm(const Array& x, const float* weight, int64_t length, float eps);
    Array rope(const Array& x, const Step& step);
    Array swiglu(const Array& gate, const Array& up);
    Array add(const Array& x, const Array& y);
    Array take(const Array& x, const std::vector<int64_t>& rows);

    // With the door locked. All threads at once do one of Limits' loops: `rounds` on each, or reading `bytes` once.
    int64_t multiply(int64_t (*loop)(int64_t rounds), int64_t rounds);
    void read(const uint8_t* from, int64_t bytes);

    // With the door locked.
    std::vector<Array> matmul(const Array& x, const Matrix* const* weights, size_t count);
    // y[rows] += x[rows] a^T b, in place; a (rank, columns of x), b (rank, columns of y). No two changes touch one row of
    // one y. The rest is filled in here.
    struct Change {
        Array* y;
        std::vector<int64_t> rows;
        const Matrix *a, *b;
        const float* x = nullptr;
        float* low = nullptr;
    };
    void add_low_rank(const Array& x, std::vector<Change>& changes);
    Array attention(const Array& q, const Array& k, const Array& v, const Step& step, int64_t layer);

private:
    struct Chunk {
        int weight;
        int64_t begin, end;
    };
    struct Piece {
        size_t change;
        int64_t row, rows, begin, end;
    };
    struct Block {
        const Span* span;
        int64_t token, tokens, head;  // first row of q, how many, and the key head
        int64_t first, begin, end;    // as in Attend
        bool steady;                  // likewise
        float* partial;
    };

    // f(thread, index) for every index below count.
    template <class F>
    void run(int64_t count, bool shared, const F& f);
    // f(begin, end) over `rows` rows of `cols` floats, in parallel where it pays.
    template <class F>
    void by_rows(int64_t rows, int64_t cols, const F& f);
    void reserve(size_t bytes);  // scratch of every thread
    const void* prepared(Form form, const Array& x);
    bool split(const Matrix* const* weights, size_t count, int64_t n);
    int64_t at_once(int64_t n) const { return deterministic_ ? std::min<int64_t>(n, 1) : n; }  // rows of activations
    void multiply(const Matrix& w, const void* form, int64_t n, float* y, int64_t begin, int64_t end,
                  void* scratch) const;
    void cut(const std::vector<Change>& changes, bool widening);
    bool splits(const Step& step, const Span& span, int64_t group) const;
    int64_t block_tokens(const Step& step, int64_t kv_heads, int64_t group) const;
    void remember(const Array& k, const Array& v, const Step& step, int64_t layer);
    void plan(const Step& step, int64_t kv_heads, int64_t group);
    Attend task(const Block& block, const Array& q, const Array& k, const Array& v, const Step& step, int64_t layer,
                Array& out) const;
    void merge(const Step& step, int64_t kv_heads, int64_t group, Array& out);

    const Kernels& kernels_;
    std::shared_ptr<Heap> heap_;
    Pool pool_;
    std::mutex door_;
    std::vector<Scratch> scratch_;  // one per thread
    Scratch prepared_[forms];       // one per form
    Scratch partial_;
    std::vector<Chunk> chunks_;
    std::vector<Block> blocks_;
    Scratch narrow_;
    std::vector<Piece> pieces_;
    bool deterministic_ = false;
};

template <class F>
void Machine::run(int64_t count, bool shared, const F& f) {
    if (shared) return pool_.run(count, f);
    for (int64_t index = 0; index < count; ++index) f(0, index);
}

template <class F>
void Machine::by_rows(int64_t rows, int64_t cols, const F& f) {
    if (!shares(rows * cols) || rows < 2) return f(int64_t(0), rows);
    const int64_t pieces = std::min<int64_t>(rows, 4 * threads());
    pool_.run(pieces, [&](int, int64_t piece) { f(rows * piece / pieces, rows * (piece + 1) / pieces); });
}

}  // namespace llamero
