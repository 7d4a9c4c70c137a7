#include "pairs.h"

#include "vocabulary.h"

namespace llamero {

void Pairs::reserve(size_t count) {
    size_t slots = 64;
    while (slots < count + count / 2) slots *= 2;
    slots_.assign(slots, Slot{});
}

size_t Pairs::start(int32_t left, int32_t right) const {
    const uint64_t key = uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    const uint64_t h = (key ^ key >> 31) * 0x9E3779B97F4A7C15ull;
    return size_t(h ^ h >> 29) & (slots_.size() - 1);
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

Join Pairs::find(int32_t left, int32_t right) const {
    for (size_t at = start(left, right); slots_[at].left >= 0; at = (at + 1) & (slots_.size() - 1)) {
        if (slots_[at].left == left && slots_[at].right == right) return slots_[at].join;
    }
    return {kNever, -1};
}

}  // namespace llamero
