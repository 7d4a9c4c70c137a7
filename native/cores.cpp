// How many processor cores this process may use.
#include "cores.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <set>
#include <thread>

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

// Processors that one group grants, in the files of version 2 or 1; infinite where it sets no limit or is not there.
double granted(const std::string& group) {
    double limit = 0, period = 0;
    if (std::sscanf(first_line(group + "/cpu.max").c_str(), "%lf %lf", &limit, &period) == 2 && period > 0)
        return limit / period;
    if (std::sscanf(first_line(group + "/cpu.cfs_quota_us").c_str(), "%lf", &limit) == 1 && limit > 0 &&
        std::sscanf(first_line(group + "/cpu.cfs_period_us").c_str(), "%lf", &period) == 1 && period > 0)
        return limit / period;
    return INFINITY;
}

// The least that a group and those it lies in grant. A container may see its own group as the root, and still be told
// its path outside: groups that are not there count for nothing, and the root is always asked.
double granted_along(const std::string& root, const std::string& path) {
    double least = granted(root);
    for (size_t end = path.size(); end != std::string::npos && end > 0; end = path.rfind('/', end - 1))
        least = std::min(least, granted(root + path.substr(0, end)));
    return least;
}

bool names_cpu(const std::string& controllers) { return ("," + controllers + ",").find(",cpu,") != std::string::npos; }

}  // namespace

double granted_processors(const std::string& root) {
    const std::string groups = root + "/sys/fs/cgroup";
    double least = INFINITY;
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {  // hierarchy:controllers:path
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        if (controllers.empty()) {  // version 2, alone or beside version 1
            least = std::min({least, granted_along(groups, path), granted_along(groups + "/unified", path)});
        } else if (names_cpu(controllers)) {
            const std::string both = groups + "/" + controllers;  // cpu,cpuacct as a rule
            least = std::min({least, granted_along(groups + "/cpu", path), granted_along(both, path)});
        }
    }
    return least;
}

int usable_cores() {
    const int cores = std::max(cores_in_affinity(), 1);
    const double most = std::max(std::ceil(granted_processors("")), 1.0);
    return most < cores ? static_cast<int>(most) : cores;
}

#else

double granted_processors(const std::string&) { return INFINITY; }

int usable_cores() { return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1); }

#endif

}  // namespace llamero
