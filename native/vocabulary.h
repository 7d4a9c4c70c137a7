// A vocabulary: the bytes of every token, and which token some bytes are. Built once from untrusted files, then const.
#pragma once
#include <cstddef>
#include <cstdint>
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

// Appends the bytes that byte-level text stands for; false where a character is outside GPT-2's alphabet.
bool append_byte_level(std::string_view text, std::string& out);

// The other way: GPT-2's characters, in UTF-8.
std::string to_byte_level(std::string_view bytes);

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
    int32_t find(std::string_view bytes, uint64_t hash) const;
    // The id that stands for one byte where nothing longer does, or -1 (for all bytes, or for none).
    int32_t byte(uint8_t value) const { return bytes_[value]; }
    bool has_bytes() const { return bytes_[0] >= 0; }
    // The length of the longest normal token.
    size_t longest() const { return longest_; }
    // False where no normal token has `right` straight after `left`: no merge can cross there.
    bool adjacent(uint8_t left, uint8_t right) const { return pairs_[left][right >> 6] >> (right & 63) & 1; }

private:
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
