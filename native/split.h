// Cuts text into the pieces within which byte-level BPE may merge: the published split patterns, as scanners.
// Each scanner takes exactly what its regular expression takes, in one pass, without backtracking.
#pragma once
#include <cstdint>

namespace llamero {

// Numbered as in tokenizer/patterns.py.
enum class Pattern : int { None = 0, Gpt2 = 1, Llama3 = 2, O200k = 3 };

// The end of the piece that starts at `p`; p < end.
using Scanner = const uint8_t* (*)(const uint8_t* p, const uint8_t* end);

// The scanner of a pattern; null for Pattern::None (the whole text is one piece).
Scanner scanner(Pattern pattern);

}  // namespace llamero
