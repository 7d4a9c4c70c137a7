// The table of one instruction-set level.
#include "kernels.h"

#define LLAMERO_STRING_(x) #x
#define LLAMERO_STRING(x) LLAMERO_STRING_(x)

namespace llamero {
namespace LLAMERO_LEVEL {

const Kernels& kernels() {
    static const Kernels table = [] {
        Kernels k{};
        k.level = LLAMERO_STRING(LLAMERO_LEVEL);
#ifndef LLAMERO_NO_PRODUCTS
        k.products = products();
#endif
        k.rowwise = rowwise();
        k.attention = attention();
        return k;
    }();
    return table;
}

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
