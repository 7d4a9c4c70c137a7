// Finds whole tokens (special or user-defined) inside text: leftmost first, longest of those. A byte trie.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace llamero {

class Matcher {
public:
    struct Match {
        size_t start;
        size_t size;  // 0 where nothing matches
        int32_t id;
    };
    // Adds a token; false where the same bytes are there already.
    bool add(std::string_view bytes, int32_t id);
    // The first match that starts at or after `from`.
    Match find(std::string_view text, size_t from) const;
    bool empty() const { return nodes_.size() == 1; }

private:
    struct Node {
        uint8_t byte;
        int32_t id;       // of the token that ends here, or -1
        int32_t child;    // first child, or -1
        int32_t sibling;  // next child of the same parent, or -1
    };
    int32_t child(int32_t node, uint8_t byte) const;
    Match longest(std::string_view text, size_t start) const;

    std::vector<Node> nodes_{Node{0, -1, -1, -1}};
    bool first_[256] = {};
};

}  // namespace llamero
