// How many processor cores this process may use.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "threads.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace llamero {

#if defined(__linux__)

namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Cores with at least one processor in our affinity mask: hyperthreads of one core count once.
int cores_in_affinity() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<int>(std::thread::hardware_concurrency());
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &set)) continue;
        const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        const std::string siblings = first_line(topology + "thread_siblings_list");
        cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
    }
    return static_cast<int>(cores.size());
}

// Whole processors that the control group grants (version 2, then 1); 0 where it sets no limit.
int quota() {
    double limit = 0, period = 0;
    if (std::sscanf(first_line("/sys/fs/cgroup/cpu.max").c_str(), "%lf %lf", &limit, &period) == 2 && period > 0)
        return static_cast<int>(std::ceil(limit / period));
    const std::string old = "/sys/fs/cgroup/cpu/cpu.cfs_";
    if (std::sscanf(first_line(old + "quota_us").c_str(), "%lf", &limit) == 1 && limit > 0 &&
        std::sscanf(first_line(old + "period_us").c_str(), "%lf", &period) == 1 && period > 0)
        return static_cast<int>(std::ceil(limit / period));
    return 0;
}

}  // namespace

int usable_cores() {
    const int cores = std::max(cores_in_affinity(), 1), granted = quota();
    return granted > 0 ? std::min(cores, granted) : cores;
}

#else

int usable_cores() { return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1); }

#endif

}  // namespace llamero
