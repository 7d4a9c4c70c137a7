// The table of one instruction-set level. Called only where the level runs: even this file is compiled with its flags.
#include "kernels.h"

#define LLAMERO_STRING_(x) #x
#define LLAMERO_STRING(x) LLAMERO_STRING_(x)

namespace llamero {
namespace LLAMERO_LEVEL {

const Kernels& kernels() {
    static const Kernels table{LLAMERO_STRING(LLAMERO_LEVEL), products(), rowwise(), attention(), limits(),
                               training(), low_rank(), choices()};
    return table;
}

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
