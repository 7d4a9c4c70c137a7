// The pool: a chunk is claimed by counting the ticket up, and the ticket as it was says of which job it is.
#include "threads.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <new>

namespace llamero {

namespace {

// A ticket from its top: 16 bits for the job's number, 24 for its chunks, 24 for those claimed. Whoever finds no chunk
// left has counted too, once a job: half the bits' range is left for that.
constexpr int JOB_SHIFT = 48, CHUNKS_SHIFT = 24;
constexpr uint64_t COUNT = (uint64_t(1) << CHUNKS_SHIFT) - 1;
constexpr int64_t MOST_CHUNKS = int64_t(1) << (CHUNKS_SHIFT - 1);

// Who waits gives way to others after a moment: the chunk that is waited for may belong to a thread without a core.
constexpr auto WORKER_ALONE = std::chrono::microseconds(10), WORKER_AWAKE = std::chrono::microseconds(200);
constexpr int WORKER_PAUSES = 32;   // between two looks at the clock
constexpr int CALLER_PAUSES = 400;  // before it gives way
constexpr int64_t WAKE = 2;         // sleepers that one thread wakes; each of these wakes as many

inline uint64_t job_of(uint64_t ticket) { return ticket >> JOB_SHIFT; }
inline int64_t claimed(uint64_t ticket) { return static_cast<int64_t>(ticket & COUNT); }
inline int64_t left(uint64_t ticket) { return static_cast<int64_t>(ticket >> CHUNKS_SHIFT & COUNT) - claimed(ticket); }

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#endif
}

void* make_fork_mark() {
    void* page =
        mmap(nullptr, static_cast<size_t>(getpagesize()), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (page == MAP_FAILED) throw std::bad_alloc();
#if defined(__linux__)
    madvise(page, static_cast<size_t>(getpagesize()), MADV_WIPEONFORK);
#elif defined(__APPLE__)
    minherit(page, static_cast<size_t>(getpagesize()), VM_INHERIT_ZERO);
#endif
    *static_cast<char*>(page) = 1;
    return page;
}

}  // namespace

Pool::Pool(int threads)
    : sleep_(new Sleep),
      threads_(std::max(threads, 1)),
      fork_mark_(make_fork_mark()),
      workers_(new std::vector<std::thread>) {
    try {
        for (int i = 1; i < threads_; ++i) workers_->emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
        threads_ = 1 + static_cast<int>(workers_->size());  // the system grants no more threads: run with these
    }
}

Pool::~Pool() {
    if (alone()) {
        workers_.release();  // in a forked child there is nobody to join,
        sleep_.release();    // and those who slept at the fork would be waited for
    } else {
        sleep_->stop.store(true);
        job_.ticket.fetch_add(uint64_t(1) << JOB_SHIFT);
        {
            std::lock_guard<std::mutex> lock(sleep_->mutex);
        }
        sleep_->news.notify_all();
        for (std::thread& worker : *workers_) worker.join();
    }
    munmap(fork_mark_, static_cast<size_t>(getpagesize()));
}

bool Pool::alone() const { return *static_cast<volatile char*>(fork_mark_) == 0; }

void Pool::run(int64_t chunks, Body body, const void* context) {
    if (chunks <= 1 || threads_ == 1 || alone()) {
        for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, 0, chunk);
        return;
    }
    job_.body = body;
    job_.context = context;
    for (job_.first = 0; job_.first < chunks; job_.first += MOST_CHUNKS)
        share_out(std::min(chunks - job_.first, MOST_CHUNKS));
}

// The caller's part of a job: it holds the first chunk from the start, and waits for those that workers hold.
void Pool::share_out(int64_t chunks) {
    const uint64_t number = job_of(job_.ticket.load(std::memory_order_relaxed)) + 1;
    const uint64_t count = static_cast<uint64_t>(chunks);
    job_.ticket.store(number << JOB_SHIFT | count << CHUNKS_SHIFT | 1, std::memory_order_seq_cst);
    wake(chunks - 1);
    job_.body(job_.context, 0, job_.first);
    expected_ += chunks - 1 - claim(0);
    for (int pauses = 0; done_.chunks.load(std::memory_order_acquire) != expected_; ++pauses) {
        if (pauses < CALLER_PAUSES) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

// Takes chunks of the job until none is left; says how many. Which job it is does not matter: while one chunk is held
// there will be no other.
int64_t Pool::claim(int thread) {
    int64_t mine = 0;
    while (left(job_.ticket.load(std::memory_order_relaxed)) > 0) {
        const uint64_t ticket = job_.ticket.fetch_add(1, std::memory_order_acquire);
        if (left(ticket) <= 0) break;
        job_.body(job_.context, thread, job_.first + claimed(ticket));
        ++mine;
    }
    return mine;
}

void Pool::work(int thread) {
    uint64_t seen = 0;
    for (;;) {
        seen = wait_for_news(seen);
        if (sleep_->stop.load()) return;
        if (const int64_t mine = claim(thread)) done_.chunks.fetch_add(mine, std::memory_order_release);
    }
}

// The number of a job other than `seen`: spins, then gives way between looks, then sleeps.
uint64_t Pool::wait_for_news(uint64_t seen) {
    const auto start = std::chrono::steady_clock::now();
    for (;;) {
        for (int pauses = 0; pauses < WORKER_PAUSES; ++pauses) {
            const uint64_t job = job_of(job_.ticket.load(std::memory_order_relaxed));
            if (job != seen) return job;
            pause();
        }
        const auto waited = std::chrono::steady_clock::now() - start;
        if (waited > WORKER_AWAKE) return sleep(seen);
        if (waited > WORKER_ALONE) std::this_thread::yield();
    }
}

uint64_t Pool::sleep(uint64_t seen) {
    uint64_t ticket = 0;
    {
        std::unique_lock<std::mutex> lock(sleep_->mutex);
        sleep_->sleepers.fetch_add(1, std::memory_order_seq_cst);
        sleep_->news.wait(lock, [&] {
            ticket = job_.ticket.load(std::memory_order_seq_cst);
            return job_of(ticket) != seen;
        });
        sleep_->sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
    wake(left(ticket) - 1);
    return job_of(ticket);
}

// Wakes sleepers, some of them only through others, so that nobody spends long on it.
void Pool::wake(int64_t helpers) {
    if (helpers < 1 || sleep_->sleepers.load(std::memory_order_seq_cst) == 0) return;
    {
        std::lock_guard<std::mutex> lock(sleep_->mutex);
    }
    for (int64_t i = 0; i < std::min(helpers, WAKE); ++i) sleep_->news.notify_one();
}

}  // namespace llamero
