// The pool: a job is a numbered ticket, a chunk is claimed by counting the ticket up.
#include "threads.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <new>

namespace llamero {

namespace {

constexpr int JOB_SHIFT = 32;
constexpr uint64_t CHUNK_MASK = (uint64_t(1) << JOB_SHIFT) - 1;
constexpr auto WORKER_SPIN = std::chrono::microseconds(80);
constexpr int CALLER_SPINS = 2000;  // pauses before the caller starts to give way to other programs

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
        ticket_.value.fetch_add(uint64_t(1) << JOB_SHIFT);
        wake(threads_);
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
    // All chunks of the last job are done, but a worker that came too late for any may still be about to claim one more
    // of it. Its ticket is spoilt first: whoever then sees a field of the new job fails to claim with the old ticket.
    const uint64_t last = ticket_.value.load(std::memory_order_relaxed) >> JOB_SHIFT;
    ticket_.value.store(last << JOB_SHIFT | CHUNK_MASK, std::memory_order_seq_cst);
    job_.chunks.store(chunks, std::memory_order_release);
    job_.body.store(body, std::memory_order_release);
    job_.context.store(context, std::memory_order_release);
    done_.chunks.store(0, std::memory_order_relaxed);
    const uint64_t job = last + 1;
    ticket_.value.store(job << JOB_SHIFT, std::memory_order_seq_cst);
    wake(chunks - 1);
    claim(0, job & CHUNK_MASK);
    for (int spins = 0; done_.chunks.load(std::memory_order_acquire) < chunks; ++spins) {
        if (spins < CALLER_SPINS) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

// Takes chunks of this job until none is left, and counts them done.
void Pool::claim(int thread, uint64_t job) {
    int64_t mine = 0;
    uint64_t ticket = ticket_.value.load(std::memory_order_acquire);
    for (;;) {
        const int64_t chunks = job_.chunks.load(std::memory_order_acquire);
        const Body body = job_.body.load(std::memory_order_acquire);
        const void* context = job_.context.load(std::memory_order_acquire);
        const int64_t chunk = static_cast<int64_t>(ticket & CHUNK_MASK);
        // Success below proves that the job just read is the ticket's own: its ticket is spoilt before its fields
        // change.
        if (ticket >> JOB_SHIFT != job || chunk >= chunks) break;
        if (ticket_.value.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                                std::memory_order_acquire)) {
            body(context, thread, chunk);
            ++mine;
            ticket = ticket_.value.load(std::memory_order_acquire);
        }
    }
    if (mine) done_.chunks.fetch_add(mine, std::memory_order_release);
}

void Pool::work(int thread) {
    uint64_t seen = 0;
    for (;;) {
        seen = wait_for_news(seen);
        if (sleep_->stop.load()) return;
        claim(thread, seen);
    }
}

// The number of a job other than `seen`: spins for a moment, then sleeps.
uint64_t Pool::wait_for_news(uint64_t seen) {
    const auto start = std::chrono::steady_clock::now();
    for (;;) {
        for (int spins = 0; spins < 64; ++spins) {
            const uint64_t job = ticket_.value.load(std::memory_order_acquire) >> JOB_SHIFT;
            if (job != seen) return job;
            pause();
        }
        if (std::chrono::steady_clock::now() - start > WORKER_SPIN) break;
    }
    std::unique_lock<std::mutex> lock(sleep_->mutex);
    sleep_->sleepers.fetch_add(1, std::memory_order_seq_cst);
    uint64_t job = 0;
    sleep_->news.wait(lock, [&] {
        job = ticket_.value.load(std::memory_order_seq_cst) >> JOB_SHIFT;
        return job != seen;
    });
    sleep_->sleepers.fetch_sub(1, std::memory_order_relaxed);
    return job;
}

void Pool::wake(int64_t helpers) {
    if (sleep_->sleepers.load(std::memory_order_seq_cst) == 0) return;
    {
        std::lock_guard<std::mutex> lock(sleep_->mutex);
    }
    if (helpers < threads_ - 1) {
        for (int64_t i = 0; i < helpers; ++i) sleep_->news.notify_one();
    } else {
        sleep_->news.notify_all();
    }
}

}  // namespace llamero
