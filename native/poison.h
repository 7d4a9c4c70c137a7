// Tells AddressSanitizer which bytes of a recycled block nobody may touch. In other builds these do nothing.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace llamero {

// The first `used` of a block's bytes may be touched, the rest not.
inline void poison_after([[maybe_unused]] void* block, [[maybe_unused]] size_t used, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(block, used);
    __asan_poison_memory_region(static_cast<char*>(block) + used, bytes - used);
#endif
}

}  // namespace llamero
