// The door between Python and the kernels: checks every shape, holds handles, owns no arithmetic.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "kernels.h"

namespace nb = nanobind;

#ifndef LLAMERO_NO_TOKENIZER
void bind_tokenizer(nb::module_& m);
#endif

namespace {

std::vector<std::string> level_names() {
    std::vector<std::string> names;
    for (const llamero::Kernels* const* k = llamero::levels(); *k; ++k) names.emplace_back((*k)->level);
    return names;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "llamero's native core";
    m.def("levels", &level_names, "Instruction-set levels that run here, weakest first.");
#ifndef LLAMERO_NO_TOKENIZER
    bind_tokenizer(m);
#endif
}
