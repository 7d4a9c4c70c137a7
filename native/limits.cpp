// The limits of the machine: every thread does nothing but multiply, or read.
#include <atomic>

#include "machine.h"

namespace llamero {

namespace {

constexpr int64_t READ_AT_ONCE = int64_t(1) << 20;  // bytes
constexpr int64_t PIECES = 16;                      // of each thread's rounds: a thread held up leaves some to the rest

}  // namespace

int64_t Machine::multiply(int64_t (*loop)(int64_t rounds), int64_t rounds) {
    std::atomic<int64_t> operations{0};
    pool_.run(PIECES * threads(), [&](int, int64_t piece) {
        operations += loop(rounds * (piece / threads() + 1) / PIECES - rounds * (piece / threads()) / PIECES);
    });
    return operations;
}

void Machine::read(const uint8_t* from, int64_t bytes) {
    pool_.run((bytes + READ_AT_ONCE - 1) / READ_AT_ONCE, [&](int, int64_t piece) {
        const int64_t begin = piece * READ_AT_ONCE;
        kernels_.limits.read(from + begin, std::min(READ_AT_ONCE, bytes - begin));
    });
}

}  // namespace llamero
