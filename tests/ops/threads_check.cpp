// The pool against counting, machines used by several threads at once, and the limits that control groups set.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "cores.h"
#include "native_check.h"

namespace check {

namespace {

// Every chunk is run once, by a thread that exists, and is seen by the caller without further ado.
void check_jobs(Pool& pool, int64_t chunks, int repeats) {
    std::vector<int> runs(static_cast<size_t>(chunks));
    for (int repeat = 1; repeat <= repeats; ++repeat) {
        pool.run(chunks, [&](int thread, int64_t chunk) {
            runs[static_cast<size_t>(chunk)] += thread >= 0 && thread < pool.threads() ? 1 : 1000;
        });
        for (int count : runs) expect(count == repeat, "runs of a chunk, of so many:", chunks);
    }
}

void check_pool() {
    for (int threads : {1, 2, 5, 64}) {
        Pool pool(threads);
        for (int64_t chunks : {0, 1, 2, 3, 100, 1000}) check_jobs(pool, chunks, 100);
        for (int nap : {5, 50, 150, 300, 2000}) {  // microseconds: workers are awake, giving way, asleep
            for (int i = 0; i < 10; ++i) {
                std::this_thread::sleep_for(std::chrono::microseconds(nap));
                check_jobs(pool, 2 * threads, 2);
            }
        }
    }
}

void check_many_jobs() {
    Pool pool(3);
    check_jobs(pool, 3, 70000);  // more than there are numbers for jobs
}

void check_life() {
    for (int i = 0; i < 200; ++i) {
        Pool pool(1 + i % 7);
        if (i % 2) check_jobs(pool, i, 1);
        if (i % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(400));
    }
}

// One after another, as Python's threads come.
void check_callers() {
    Pool pool(4);
    for (int i = 0; i < 50; ++i) std::thread([&] { check_jobs(pool, 10 + i, 20); }).join();
}

struct Work {
    std::mt19937 generator{7};
    Weights q8{generator, STORED[7], 300, 288}, q4{generator, STORED[11], 300, 256};
    Weights f16{generator, STORED[1], 300, 257};
    std::vector<float> rows = normal(generator, 40 * 300);

    // Products of one row and of many, and a sum that is shared out.
    std::vector<Array> run(Machine& machine) const {
        std::vector<Array> out;
        const std::lock_guard<std::mutex> door(machine.door());
        for (const Weights* w : {&q8, &q4, &f16})
            for (int64_t n : {1, 3, 40}) {
                const int64_t k = w->matrix().k;
                const std::vector<float> x(rows.begin(), rows.begin() + n * k);
                const Matrix* weights[] = {&w->matrix(), &w->matrix()};
                for (Array& y : machine.matmul(array_of(machine, x, k), weights, 2)) out.push_back(std::move(y));
            }
        const Array wide = array_of(machine, rows, 100);
        out.push_back(machine.add(wide, wide));
        return out;
    }
};

void check_machine(Machine& machine, const Work& work, const std::vector<Array>& want) {
    for (int repeat = 0; repeat < 5; ++repeat) {
        const std::vector<Array> got = work.run(machine);
        for (size_t i = 0; i < want.size(); ++i)
            expect(same(got[i], want[i]), machine, "result among several threads", static_cast<int64_t>(i), 0, 0);
        const Array small = array_of(machine, {1, 2, 3}, 3);  // needs no door
        expect(machine.add(small, small).data()[2] == 6, machine, "a sum among several threads", 3, 0, 0);
    }
}

// A machine for each thread, then one for all.
void check_machines(const Kernels& kernels) {
    const Work work;
    Machine alone(1, kernels), shared(3, kernels);
    const std::vector<Array> want = work.run(alone);
    for (bool own : {true, false}) {
        std::vector<std::thread> callers;
        for (int i = 0; i < 4; ++i)
            callers.emplace_back([&, i, own] {
                const std::unique_ptr<Machine> mine(own ? new Machine(1 + i, kernels) : nullptr);
                check_machine(own ? *mine : shared, work, want);
            });
        for (std::thread& caller : callers) caller.join();
    }
}

class Tree {
public:
    explicit Tree(const std::string& groups) : root_(std::filesystem::temp_directory_path() / name()) {
        write("proc/self/cgroup", groups);
    }
    ~Tree() { std::filesystem::remove_all(root_); }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;

    void write(const std::string& path, const std::string& text) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text << "\n";
    }
    double granted() const { return granted_processors(root_.string()); }

private:
    static std::string name() { return "llamero-groups-" + std::to_string(std::random_device()()); }
    std::filesystem::path root_;
};

void check_groups() {
    const std::string fs = "sys/fs/cgroup/";
    Tree two("0::/a/b");
    expect(std::isinf(two.granted()), "no limit, version", 2);
    two.write(fs + "a/b/cpu.max", "max 100000");
    two.write(fs + "a/cpu.max", "250000 100000");
    expect(two.granted() == 2.5, "limit of an outer group, version", 2);
    two.write(fs + "a/b/cpu.max", "50000 100000");
    expect(two.granted() == 0.5, "limit of the group itself, version", 2);

    Tree inside("0::/somewhere/outside");
    inside.write(fs + "cpu.max", "300000 100000");
    expect(inside.granted() == 3, "limit of a container, version", 2);

    Tree one("5:memory:/m\n4:cpu,cpuacct:/a/b\n0::/u");
    one.write(fs + "cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1");
    one.write(fs + "cpu,cpuacct/a/b/cpu.cfs_period_us", "100000");
    expect(std::isinf(one.granted()), "no limit, version", 1);
    one.write(fs + "cpu,cpuacct/a/cpu.cfs_quota_us", "400000");
    one.write(fs + "cpu,cpuacct/a/cpu.cfs_period_us", "100000");
    expect(one.granted() == 4, "limit of an outer group, version", 1);
    one.write(fs + "unified/u/cpu.max", "100000 100000");
    expect(one.granted() == 1, "the stricter of both versions, of", 2);
}

}  // namespace

void check_threads() {
    check_pool();
    check_many_jobs();
    check_life();
    check_callers();
#if defined(__linux__)
    check_groups();
#endif
    for (const Kernels* const* level = levels(); *level; ++level) check_machines(**level);
}

}  // namespace check
