#include "pairs.h"

#include "vocabulary.h"

namespace llamero {

void Pairs::reserve(size_t count) {
    size_t slots = 64;
    while (slots < count + count / 2) slots *= 2;
    slots_.assign(slots, Slot{});
}

bool Pairs::add(int32_t left, int32_t right, Join join) {
    size_t at = start(left, right);
    for (size_t probes = 0; slots_[at].left >= 0; ++probes, at = (at + 1) & (slots_.size() - 1)) {
        if (slots_[at].left == left && slots_[at].right == right) return false;
        if (probes > kMostProbes) throw VocabularyError("thousands of merges collide: a crafted vocabulary");
    }
    slots_[at] = {left, right, join};
    return true;
}

}  // namespace llamero
