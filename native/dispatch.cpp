// Which levels can run here: asks the processor, and the operating system whether it saves the wide registers.
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace llamero {

#if defined(__x86_64__)

namespace baseline {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avxvnni {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}

namespace {

struct Registers {
    unsigned a, b, c, d;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r{};
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}

bool all(unsigned value, unsigned bits) { return (value & bits) == bits; }

// The register sets that the operating system saves (XCR0), 0 if it does not say.
unsigned saved_state(const Registers& one) {
    if (!all(one.c, 1u << 27)) return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

bool has_avx2() {
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
    const unsigned avx_fma_f16c = 1u << 28 | 1u << 12 | 1u << 29;
    return all(saved_state(one), 0x6) && all(one.c, avx_fma_f16c) && all(seven.b, 1u << 5);
}

bool has_avxvnni() { return has_avx2() && all(cpuid(7, 1).a, 1u << 4); }

bool has_avx512() {
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return has_avx2() && all(saved_state(one), 0xe6) && all(seven.b, f_dq_bw_vl) && all(seven.c, 1u << 11);
}

}  // namespace

const Kernels* const* levels() {
    static const Kernels* found[5] = {};
    static const bool filled = [] {
        int n = 0;
        found[n++] = &baseline::kernels();
        if (has_avx2()) found[n++] = &avx2::kernels();
        if (has_avxvnni()) found[n++] = &avxvnni::kernels();
        if (has_avx512()) found[n++] = &avx512::kernels();
        return true;
    }();
    (void)filled;
    return found;
}

#elif defined(__aarch64__)

namespace neon {
const Kernels& kernels();
}
namespace neondot {
const Kernels& kernels();
}
namespace neoni8mm {
const Kernels& kernels();
}

namespace {

bool has_dot() {
#if defined(__APPLE__)
    return true;  // every Apple processor of this architecture since M1
#elif defined(__linux__)
    const unsigned long fp16 = 1ul << 10, dot = 1ul << 20;  // HWCAP_ASIMDHP, HWCAP_ASIMDDP
    return (getauxval(AT_HWCAP) & (fp16 | dot)) == (fp16 | dot);
#else
    return false;
#endif
}

bool has_i8mm() {
#if defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_I8MM", &has, &size, nullptr, 0) == 0 && has;
#elif defined(__linux__)
    const unsigned long i8mm = 1ul << 13;  // HWCAP2_I8MM
    return has_dot() && (getauxval(AT_HWCAP2) & i8mm);
#else
    return false;
#endif
}

}  // namespace

const Kernels* const* levels() {
    static const Kernels* found[4] = {};
    static const bool filled = [] {
        int n = 0;
        found[n++] = &neon::kernels();
        if (has_dot()) found[n++] = &neondot::kernels();
        if (has_i8mm()) found[n++] = &neoni8mm::kernels();
        return true;
    }();
    (void)filled;
    return found;
}

#else
#error "llamero has kernels for x86-64 and aarch64"
#endif

}  // namespace llamero
