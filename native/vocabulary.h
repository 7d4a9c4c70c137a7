// A vocabulary: the bytes of every token, and which token some bytes are. Built once from untrusted files, then const.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace llamero {

// A column of strings inside one buffer: string i is [starts[i], ends[i]). The caller has checked every bound.
struct Strings {
    const uint8_t* data = nullptr;
    const uint64_t* starts = nullptr;
    const uint64_t* ends = nullptr;
    size_t count = 0;
    std::string_view operator[](size_t i) const {
        return {reinterpret_cast<const char*>(data) + starts[i], size_t(ends[i] - starts[i])};
    }
};

// A file's fault, told to the user as a TokenizerError.
struct VocabularyError : std::invalid_argument {
    using std::invalid_argument::invalid_argument;
};

// What a token is, numbered as tokenizer.ggml.token_type.
enum class Kind : uint8_t { Normal = 1, Unknown = 2, Control = 3, User = 4, Unused = 5, Byte = 6 };

// How a file writes bytes as text: U+2581 for a space and <0x0A> for a byte; GPT-2's 256 printable characters; or plainly.
enum class Form : int { SentencePiece = 0, ByteLevel = 1, Raw = 2 };

// A hash of bytes that never reads past them.
uint64_t hash_bytes(const char* p, size_t n);

// Writes the bytes that byte-level text stands for, at most as many as the text has, and returns where they end; null
// where a character is outside GPT-2's alphabet.
char* from_byte_level(std::string_view text, char* to);

// The other way: GPT-2's characters, in UTF-8.
std::string to_byte_level(std::string_view bytes);

// The length in bytes that no token exceeds (the Llamas' longest has 128).
constexpr size_t kLongestToken = 4096;

// Open addressing gives up after this many steps: no honest vocabulary comes near, a crafted one would stall us.
constexpr size_t kMostProbes = 4096;

class Vocabulary {
public:
    // Throws VocabularyError naming the token by its id.
    Vocabulary(Form form, const Strings& tokens, const uint8_t* kinds);

    size_t size() const { return kinds_.size(); }
    Form form() const { return form_; }
    Kind kind(int32_t id) const { return kinds_[size_t(id)]; }
    std::string_view piece(int32_t id) const {
        return {pool_.data() + offsets_[size_t(id)], offsets_[size_t(id) + 1] - offsets_[size_t(id)]};
    }
    // The id of a normal token with these bytes, or -1.
    int32_t find(std::string_view bytes) const { return find(bytes, hash_bytes(bytes.data(), bytes.size())); }
    int32_t find(std::string_view bytes, uint64_t hash) const {
        const uint32_t tag = uint32_t(hash >> 32);
        for (size_t at = hash & (slots_.size() - 1); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at].tag == tag && is(slots_[at].id, bytes)) return slots_[at].id;
        }
        return -1;
    }
    // Whether a token has these bytes.
    bool is(int32_t id, std::string_view bytes) const {
        const uint32_t from = offsets_[size_t(id)];
        return offsets_[size_t(id) + 1] - from == bytes.size() && same(pool_.data() + from, bytes.data(), bytes.size());
    }
    // The id that stands for one byte where nothing longer does, or -1 (for all bytes, or for none).
    int32_t byte(uint8_t value) const { return bytes_[value]; }
    bool has_bytes() const { return bytes_[0] >= 0; }
    // The length of the longest normal token.
    size_t longest() const { return longest_; }
    // False where no normal token has `right` straight after `left`: no merge can cross there.
    bool adjacent(uint8_t left, uint8_t right) const { return pairs_[left][right >> 6] >> (right & 63) & 1; }

private:
    // Tokens are short: comparing them here beats a call of memcmp.
    static bool same(const char* a, const char* b, size_t n) {
        if (n > 16) return std::memcmp(a, b, n) == 0;
        uint64_t x = 0, y = 0, u = 0, v = 0;
        if (n >= 8) {
            std::memcpy(&x, a, 8), std::memcpy(&y, b, 8);
            std::memcpy(&u, a + n - 8, 8), std::memcpy(&v, b + n - 8, 8);
        } else if (n >= 4) {
            std::memcpy(&x, a, 4), std::memcpy(&y, b, 4);
            std::memcpy(&u, a + n - 4, 4), std::memcpy(&v, b + n - 4, 4);
        } else if (n) {
            return a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1];
        }
        return ((x ^ y) | (u ^ v)) == 0;
    }
    struct Slot {
        uint32_t tag;
        int32_t id;
    };
    void append(size_t id, std::string_view text);
    void index(int32_t id);
    void set_byte(uint8_t value, int32_t id);
    void find_bytes();

    Form form_;
    std::vector<Kind> kinds_;
    std::string pool_;               // every token's bytes, one after another
    std::vector<uint32_t> offsets_;  // (size + 1,) into pool_
    std::vector<Slot> slots_;        // a power of two of them
    int32_t bytes_[256];
    uint64_t pairs_[256][4] = {};
    size_t longest_ = 0;
};

}  // namespace llamero
