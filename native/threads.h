// A pool of threads that share out the chunks of one job at a time. Knows nothing of what a chunk is.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace llamero {

// The caller is thread 0 of `threads`. Workers spin for a moment after a job, then sleep. A chunk belongs to whoever
// claims it, so a worker that the system keeps off the processor delays nobody unless it holds a chunk.
class Pool {
public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    // body(thread, chunk) for every chunk in [0, chunks), each exactly once; returns when all are done.
    // `body` must not throw, and one job runs at a time.
    template <class F>
    void run(int64_t chunks, const F& body) {
        run(
            chunks, [](const void* f, int thread, int64_t chunk) { (*static_cast<const F*>(f))(thread, chunk); },
            &body);
    }

private:
    typedef void (*Body)(const void* context, int thread, int64_t chunk);

    void run(int64_t chunks, Body body, const void* context);
    void share_out(int64_t chunks);
    int64_t claim(int thread);
    void work(int thread);
    uint64_t wait_for_news(uint64_t seen);
    uint64_t sleep(uint64_t seen);
    void wake(int64_t helpers);
    bool alone() const;

    // Each on lines of its own: what one thread writes must not slow what another reads.
    // A ticket is the number of a job, its number of chunks, and how many of them are claimed. The rest of the job is
    // written while none is left to claim and read by who holds a chunk, so it needs no ordering of its own; it comes
    // along on the ticket's line.
    struct alignas(128) Job {
        std::atomic<uint64_t> ticket{0};
        Body body = nullptr;
        const void* context = nullptr;
        int64_t first = 0;
    } job_;
    struct alignas(128) Done {
        std::atomic<int64_t> chunks{0};  // by workers, in all jobs so far
    } done_;
    struct alignas(128) Sleep {
        std::atomic<int> sleepers{0};
        std::atomic<bool> stop{false};
        std::mutex mutex;
        std::condition_variable news;
    };
    std::unique_ptr<Sleep> sleep_;

    int threads_;
    int64_t expected_ = 0;  // what done_ will say when the job is done
    void* fork_mark_;       // a page that a forked child finds wiped: its workers did not come along
    std::unique_ptr<std::vector<std::thread>> workers_;
};

}  // namespace llamero
