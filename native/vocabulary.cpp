#include "vocabulary.h"

#include <cstring>

namespace llamero {
namespace {

constexpr size_t kMostTokens = size_t(1) << 24;
constexpr size_t kPoolLimit = size_t(1) << 31;

__extension__ typedef unsigned __int128 uint128;

inline uint64_t mix(uint64_t a, uint64_t b) {
    uint128 product = uint128(a) * b;
    return uint64_t(product) ^ uint64_t(product >> 64);
}

template <class T>
inline T load(const char* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

inline uint64_t load_tail(const char* p, size_t n) {  // 1 <= n <= 8
    if (n >= 4) return uint64_t(load<uint32_t>(p)) << 32 | load<uint32_t>(p + n - 4);
    return uint64_t(uint8_t(p[0])) << 16 | uint64_t(uint8_t(p[n / 2])) << 8 | uint8_t(p[n - 1]);
}

// GPT-2 writes the printable bytes as themselves and the 68 others as U+0100 and up, in order.
struct ByteLevel {
    uint16_t code[256];    // byte -> code point
    int16_t byte[0x144];   // code point -> byte, or -1
    constexpr ByteLevel() : code{}, byte{} {
        for (int i = 0; i < 0x144; ++i) byte[i] = -1;
        uint16_t next = 0x100;
        for (int b = 0; b < 256; ++b) {
            const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            code[b] = printable ? uint16_t(b) : next++;
            byte[code[b]] = int16_t(b);
        }
    }
};
constexpr ByteLevel kByteLevel{};

// The text of a token for a message: printable, and cut short.
std::string quoted(std::string_view text) {
    std::string out = "'";
    for (char c : text.substr(0, 40)) out += (c >= 32 && c < 127) ? c : '?';
    return out + (text.size() > 40 ? "...'" : "'");
}

[[noreturn]] void refuse(size_t id, const std::string& what) {
    throw VocabularyError("token " + std::to_string(id) + " " + what);
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

// The byte of "<0x0A>", or -1.
int byte_of(std::string_view text) {
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
    const int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void append_spaced(std::string_view text, std::string& out) {
    for (size_t i = 0; i < text.size(); ++i) {
        if (text.compare(i, 3, "\xE2\x96\x81") == 0) {
            out += ' ';
            i += 2;
        } else {
            out += text[i];
        }
    }
}

}  // namespace

uint64_t hash_bytes(const char* p, size_t n) {
    uint64_t h = 0x9E3779B97F4A7C15ull ^ n * 0xD6E8FEB86659FD93ull;
    for (; n > 8; p += 8, n -= 8) h = mix(h ^ load<uint64_t>(p), 0xA0761D6478BD642Full);
    if (n) h = mix(h ^ load_tail(p, n), 0xE7037ED1A0B428DBull);
    return h;
}

char* from_byte_level(std::string_view text, char* to) {
    for (size_t i = 0; i < text.size(); ++i) {
        unsigned code = uint8_t(text[i]);
        if (code >= 0x80) {
            if ((code & 0xE0) != 0xC0 || i + 1 >= text.size()) return nullptr;
            code = (code & 0x1F) << 6 | (uint8_t(text[++i]) & 0x3F);
        }
        if (code >= 0x144 || kByteLevel.byte[code] < 0) return nullptr;
        *to++ = char(kByteLevel.byte[code]);
    }
    return to;
}

std::string to_byte_level(std::string_view bytes) {
    std::string out;
    for (char c : bytes) {
        const unsigned code = kByteLevel.code[uint8_t(c)];
        if (code < 0x80) {
            out += char(code);
        } else {
            out += char(0xC0 | code >> 6);
            out += char(0x80 | (code & 0x3F));
        }
    }
    return out;
}

Vocabulary::Vocabulary(Form form, const Strings& tokens, const uint8_t* kinds) : form_(form) {
    if (tokens.count == 0) throw VocabularyError("there are no tokens");
    if (tokens.count > kMostTokens) throw VocabularyError(std::to_string(tokens.count) + " tokens are too many");
    kinds_.reserve(tokens.count);
    offsets_.reserve(tokens.count + 1);
    offsets_.push_back(0);
    size_t slots = 64;
    while (slots < tokens.count * 2) slots *= 2;
    slots_.assign(slots, Slot{0, -1});
    std::memset(bytes_, -1, sizeof bytes_);
    for (size_t id = 0; id < tokens.count; ++id) {
        if (kinds[id] < 1 || kinds[id] > 6) refuse(id, "has the unknown type " + std::to_string(kinds[id]));
        kinds_.push_back(Kind(kinds[id]));
        const std::string_view text = tokens[id];
        if (text.empty()) refuse(id, "is empty");
        if (text.size() > kLongestToken) refuse(id, "is longer than 4096 bytes");
        append(id, text);
        if (pool_.size() > kPoolLimit) throw VocabularyError("the tokens take more than 2 GiB");
        offsets_.push_back(uint32_t(pool_.size()));
        if (kinds_[id] == Kind::Normal) index(int32_t(id));
    }
    find_bytes();
}

void Vocabulary::append(size_t id, std::string_view text) {
    if (kinds_[id] == Kind::Byte) {
        const int value = byte_of(text);
        if (value < 0) refuse(id, quoted(text) + " should name a byte as <0x00> does");
        pool_ += char(value);
        set_byte(uint8_t(value), int32_t(id));
    } else if (form_ == Form::SentencePiece) {
        append_spaced(text, pool_);
    } else if (form_ == Form::ByteLevel && kinds_[id] == Kind::Normal) {
        char bytes[kLongestToken];
        const char* end = from_byte_level(text, bytes);
        if (!end) refuse(id, quoted(text) + " is not written in the byte-level alphabet");
        pool_.append(bytes, size_t(end - bytes));
    } else {
        pool_ += text;
    }
}

void Vocabulary::set_byte(uint8_t value, int32_t id) {
    if (bytes_[value] >= 0) {
        refuse(size_t(id), "stands for the same byte as token " + std::to_string(bytes_[value]));
    }
    bytes_[value] = id;
}

void Vocabulary::index(int32_t id) {
    const std::string_view bytes = piece(id);
    const uint64_t hash = hash_bytes(bytes.data(), bytes.size());
    size_t at = hash & (slots_.size() - 1);
    for (size_t probes = 0; slots_[at].id >= 0; ++probes, at = (at + 1) & (slots_.size() - 1)) {
        if (slots_[at].tag == uint32_t(hash >> 32) && is(slots_[at].id, bytes)) {
            refuse(size_t(id), quoted(bytes) + " is the same as token " + std::to_string(slots_[at].id));
        }
        if (probes > kMostProbes) refuse(size_t(id), "collides with thousands of others: a crafted vocabulary");
    }
    slots_[at] = {uint32_t(hash >> 32), id};
    if (bytes.size() > longest_) longest_ = bytes.size();
    for (size_t i = 1; i < bytes.size(); ++i) {
        const uint8_t right = uint8_t(bytes[i]);
        pairs_[uint8_t(bytes[i - 1])][right >> 6] |= uint64_t(1) << (right & 63);
    }
    if (form_ != Form::SentencePiece && bytes.size() == 1) set_byte(uint8_t(bytes[0]), id);
}

void Vocabulary::find_bytes() {
    size_t missing = 0, first = 0;
    for (size_t value = 256; value-- > 0;) {
        if (bytes_[value] < 0) {
            ++missing;
            first = value;
        }
    }
    if (missing == 0 || (missing == 256 && form_ == Form::SentencePiece)) return;
    static const char kHex[] = "0123456789ABCDEF";
    throw VocabularyError(std::to_string(missing) + " of the 256 bytes have no token, 0x" + kHex[first >> 4] +
                          kHex[first & 15] + " first: some texts could not be encoded");
}

}  // namespace llamero
