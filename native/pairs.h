// Which two neighbouring tokens join, and how early: the merges of a file as a hash table.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace llamero {

// What joining two neighbours makes; a lower rank is joined first. kNever: they do not join.
struct Join {
    uint32_t rank;
    int32_t id;
};
constexpr uint32_t kNever = UINT32_MAX;

// (left id, right id) -> Join, by open addressing.
class Pairs {
public:
    void reserve(size_t count);
    // False where the pair is there already.
    bool add(int32_t left, int32_t right, Join join);
    Join find(int32_t left, int32_t right) const {
        for (size_t at = start(left, right); slots_[at].left >= 0; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at].left == left && slots_[at].right == right) return slots_[at].join;
        }
        return {kNever, -1};
    }
    // Starts fetching the memory that `add` will touch: a table of megabytes is filled in no order.
    void expect(int32_t left, int32_t right) const { __builtin_prefetch(&slots_[start(left, right)], 1); }
    struct Slot {
        int32_t left = -1, right = -1;
        Join join{kNever, -1};
    };
    const std::vector<Slot>& slots() const { return slots_; }

private:
    size_t start(int32_t left, int32_t right) const {
        const uint64_t key = uint64_t(uint32_t(left)) << 32 | uint32_t(right);
        const uint64_t h = (key ^ key >> 31) * 0x9E3779B97F4A7C15ull;
        return size_t(h ^ h >> 29) & (slots_.size() - 1);
    }
    std::vector<Slot> slots_ = std::vector<Slot>(64);  // a power of two of them; left < 0: free
};

}  // namespace llamero
