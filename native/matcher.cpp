#include "matcher.h"

namespace llamero {

int32_t Matcher::child(int32_t node, uint8_t byte) const {
    int32_t at = nodes_[size_t(node)].child;
    while (at >= 0 && nodes_[size_t(at)].byte != byte) at = nodes_[size_t(at)].sibling;
    return at;
}

bool Matcher::add(std::string_view bytes, int32_t id) {
    int32_t node = 0;
    for (char c : bytes) {
        int32_t next = child(node, uint8_t(c));
        if (next < 0) {
            next = int32_t(nodes_.size());
            nodes_.push_back({uint8_t(c), -1, -1, nodes_[size_t(node)].child});
            nodes_[size_t(node)].child = next;
        }
        node = next;
    }
    if (nodes_[size_t(node)].id >= 0) return false;
    nodes_[size_t(node)].id = id;
    first_[uint8_t(bytes[0])] = true;
    return true;
}

Matcher::Match Matcher::longest(std::string_view text, size_t start) const {
    Match best{start, 0, -1};
    int32_t node = 0;
    for (size_t i = start; i < text.size(); ++i) {
        node = child(node, uint8_t(text[i]));
        if (node < 0) break;
        if (nodes_[size_t(node)].id >= 0) best = {start, i + 1 - start, nodes_[size_t(node)].id};
    }
    return best;
}

Matcher::Match Matcher::find(std::string_view text, size_t from) const {
    for (size_t i = from; i < text.size(); ++i) {
        if (!first_[uint8_t(text[i])]) continue;
        const Match match = longest(text, i);
        if (match.size) return match;
    }
    return {text.size(), 0, -1};
}

}  // namespace llamero
