// The merge loop itself: join the neighbours of lowest rank, leftmost first, until no two neighbours join.
// A piece of a few symbols is scanned; a long one keeps its candidates in a heap, O(n log n) whatever the text.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "merges.h"

namespace llamero {

struct Symbol {
    uint32_t start;  // in the piece; it ends where the next one starts
    int32_t id;      // or -1 for a character that is no token
};

// `symbols` holds n symbols and one more that marks the end. `join(text, left id, right id)` says what two neighbours,
// whose bytes together are `text`, become. Returns how many symbols are left, again followed by the end mark.
template <class Joiner>
size_t merge_few(std::string_view piece, Symbol* symbols, Join* joins, size_t n, const Joiner& join) {
    const auto look = [&](size_t i) {
        const std::string_view both = piece.substr(symbols[i].start, symbols[i + 2].start - symbols[i].start);
        return join(both, symbols[i].id, symbols[i + 1].id);
    };
    for (size_t i = 0; i + 1 < n; ++i) joins[i] = look(i);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; ++i) {
            if (joins[i].rank < joins[best].rank) best = i;
        }
        if (joins[best].rank == kNever) break;
        symbols[best].id = joins[best].id;
        std::copy(symbols + best + 2, symbols + n + 1, symbols + best + 1);
        if (best + 2 < n) std::copy(joins + best + 2, joins + n - 1, joins + best + 1);
        --n;
        if (best + 1 < n) joins[best] = look(best);
        if (best > 0) joins[best - 1] = look(best - 1);
    }
    return n;
}

template <class Joiner>
class MergeMany {
public:
    MergeMany(std::string_view piece, std::vector<Symbol>& symbols, const Joiner& join)
        : piece_(piece), symbols_(symbols), join_(join), links_(symbols.size()) {
        const int32_t last = int32_t(symbols.size()) - 2;  // before the end mark
        for (int32_t i = 0; i <= last; ++i) {
            links_[size_t(i)] = {i - 1, i == last ? -1 : i + 1, symbols[size_t(i) + 1].start - symbols[size_t(i)].start};
        }
        for (int32_t i = 0; i < last; ++i) push(i);
        std::make_heap(heap_.begin(), heap_.end());
        while (!heap_.empty()) {
            const Candidate top = heap_.front();
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.pop_back();
            apply(top);
        }
    }

    // Calls `emit(bytes, id)` for what is left, in order.
    template <class Emit>
    void each(const Emit& emit) const {
        for (int32_t i = 0; i >= 0; i = links_[size_t(i)].next) {
            emit(piece_.substr(symbols_[size_t(i)].start, links_[size_t(i)].size), symbols_[size_t(i)].id);
        }
    }

private:
    struct Link {
        int32_t prev, next;
        uint32_t size;  // in bytes; 0 once joined to the left
    };
    struct Candidate {
        uint32_t rank, left, size;
        int32_t id;
        // The standard heap keeps the largest on top.
        bool operator<(const Candidate& b) const { return rank != b.rank ? rank > b.rank : left > b.left; }
    };

    // True where symbol i joins its right neighbour: the candidate is then at the back of the heap's storage.
    bool push(int32_t i) {
        const Link& link = links_[size_t(i)];
        if (link.next < 0) return false;
        const uint32_t size = link.size + links_[size_t(link.next)].size;
        const Join found = join_(piece_.substr(symbols_[size_t(i)].start, size), symbols_[size_t(i)].id,
                                 symbols_[size_t(link.next)].id);
        if (found.rank == kNever) return false;
        heap_.push_back({found.rank, uint32_t(i), size, found.id});
        return true;
    }

    void consider(int32_t i) {
        if (i >= 0 && push(i)) std::push_heap(heap_.begin(), heap_.end());
    }

    void apply(const Candidate& c) {
        Link& left = links_[c.left];
        if (left.size == 0 || left.next < 0) return;
        Link& right = links_[size_t(left.next)];
        // Symbols only grow, so another length means that one of the two has been joined elsewhere since.
        if (left.size + right.size != c.size) return;
        symbols_[c.left].id = c.id;
        left.size = c.size;
        left.next = right.next;
        right.size = 0;
        if (left.next >= 0) links_[size_t(left.next)].prev = int32_t(c.left);
        consider(left.prev);
        consider(int32_t(c.left));
    }

    std::string_view piece_;
    std::vector<Symbol>& symbols_;
    const Joiner& join_;
    std::vector<Link> links_;
    std::vector<Candidate> heap_;
};

}  // namespace llamero
