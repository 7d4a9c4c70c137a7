// The table of functions that every instruction-set level fills in, and how to find a level at run time.
// Knows nothing of Python, files or models.
#pragma once
#include <cstddef>
#include <cstdint>

#include "products.h"

namespace llamero {

// All kernels of one level. native/kernels/level.cpp builds it; nothing else names a level's functions.
struct Kernels {
    const char* level;
    Products products;
};

// The levels that this processor and operating system can run, weakest first; ends with a null pointer.
const Kernels* const* levels();

}  // namespace llamero

// Files in native/kernels/ are compiled once per level, each time with LLAMERO_LEVEL set to its name. What they share
// with one another lives in namespace llamero::<level>, everything else in anonymous namespaces inside it.
#ifdef LLAMERO_LEVEL
namespace llamero {
namespace LLAMERO_LEVEL {
Products products();  // defined in native/kernels/products.cpp
}
}  // namespace llamero
#endif
