// What the files of the door to Python share.
#pragma once
#include <nanobind/nanobind.h>

#include <string>

namespace llamero {
struct Kernels;
}

void bind_tokenizer(nanobind::module_& m);
void bind_training(nanobind::module_& m);

// The level of that name, "" for the strongest that runs here.
const llamero::Kernels& kernels_of(const std::string& level);

// The same number; throws std::invalid_argument where there cannot be so many.
int checked_threads(int threads);
