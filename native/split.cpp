#include "split.h"

#include "unicode_table.h"

namespace llamero {
namespace {

using Bytes = const uint8_t*;

constexpr uint8_t mask(CharClass c) { return uint8_t(1u << unsigned(c)); }
constexpr uint8_t kUpper = mask(CharClass::Upper), kLower = mask(CharClass::Lower), kLetter = mask(CharClass::Letter);
constexpr uint8_t kMark = mask(CharClass::Mark), kNumber = mask(CharClass::Number);
constexpr uint8_t kNewline = mask(CharClass::Newline), kSpace = mask(CharClass::Space) | kNewline;  // \s
constexpr uint8_t kL = kUpper | kLower | kLetter;            // \p{L}
constexpr uint8_t kSymbol = mask(CharClass::Other) | kMark;  // [^\s\p{L}\p{N}]
constexpr uint8_t kHead = kUpper | kLetter | kMark;          // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr uint8_t kTail = kLower | kLetter | kMark;          // [\p{Ll}\p{Lm}\p{Lo}\p{M}]

// A character: its class as a mask, and its length in bytes. Length 0 and mask 0 stand for the end.
struct Char {
    uint8_t mask;
    uint8_t size;
    bool is(uint8_t classes) const { return (mask & classes) != 0; }
};

uint8_t mask_of(uint32_t code) {
    uint32_t at = kClassIndex[code / kClassBlock] * kClassBlock + code % kClassBlock;
    return uint8_t(1u << ((kClassNibbles[at / 2] >> (at % 2 * 4)) & 15));
}

// Masks of the ASCII characters, spread out of the packed table.
struct Ascii {
    uint8_t masks[128];
    constexpr Ascii() : masks{} {
        for (unsigned code = 0; code < 128; ++code) {
            uint32_t at = kClassIndex[0] * kClassBlock + code;
            masks[code] = uint8_t(1u << ((kClassNibbles[at / 2] >> (at % 2 * 4)) & 15));
        }
    }
};
constexpr Ascii kAscii{};

Char decode(Bytes p, Bytes end) {
    const uint8_t lead = *p;
    const unsigned size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (size == 1 || size > unsigned(end - p)) return {kSymbol & ~kMark, 1};  // not UTF-8: a symbol of one byte
    uint32_t code = lead & (0xFF >> (size + 1));
    for (unsigned i = 1; i < size; ++i) code = code << 6 | (p[i] & 0x3F);
    if (code > 0x10FFFF) return {kSymbol & ~kMark, 1};
    return {mask_of(code), uint8_t(size)};
}

inline Char at(Bytes p, Bytes end) {
    if (p >= end) return {0, 0};
    if (*p < 0x80) return {kAscii.masks[*p], 1};
    return decode(p, end);
}

inline Bytes skip(Bytes p, Bytes end, uint8_t classes) {
    for (Char c = at(p, end); c.is(classes); c = at(p, end)) p += c.size;
    return p;
}

// Length of 's 't 're 've 'm 'll 'd at p, or 0. Folding case also takes the long s (U+017F), as the patterns do.
unsigned contraction(Bytes p, Bytes end, bool fold) {
    if (end - p < 2 || *p != '\'') return 0;
    const uint8_t bit = fold ? 0x20 : 0;
    const uint8_t a = p[1] | bit;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - p < 3) return 0;
    if (fold && p[1] == 0xC5 && p[2] == 0xBF) return 3;
    const uint8_t b = p[2] | bit;
    return ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) ? 3 : 0;
}

Bytes digits(Bytes p, Bytes end, int most) {
    for (int i = 0; i < most; ++i) {
        Char c = at(p, end);
        if (!c.is(kNumber)) break;
        p += c.size;
    }
    return p;
}

// \s*[\r\n]+ (where `newlines`), then \s+(?!\S), then \s+ : p stands on white space.
Bytes spaces(Bytes p, Bytes end, bool newlines) {
    Bytes after_newline = nullptr, last = p, q = p;
    for (Char c = at(q, end); c.is(kSpace); c = at(q, end)) {
        last = q;
        q += c.size;
        if (c.is(kNewline)) after_newline = q;
    }
    if (newlines && after_newline) return after_newline;
    return (q == end || last == p) ? q : last;  // the last space of a run stays for the word behind it
}

//  ?[^\s\p{L}\p{N}]+ at p, or null.
Bytes symbols(Bytes p, Bytes end) {
    Bytes q = *p == ' ' ? p + 1 : p;
    Bytes r = skip(q, end, kSymbol);
    return r > q ? r : nullptr;
}

// '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
Bytes gpt2(Bytes p, Bytes end) {
    if (unsigned n = contraction(p, end, false)) return p + n;
    Bytes q = *p == ' ' ? p + 1 : p;
    Char c = at(q, end);
    if (c.is(kL)) return skip(q + c.size, end, kL);
    if (c.is(kNumber)) return skip(q + c.size, end, kNumber);
    if (c.is(kSymbol)) return skip(q + c.size, end, kSymbol);
    return spaces(p, end, false);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
Bytes llama3(Bytes p, Bytes end) {
    if (unsigned n = contraction(p, end, true)) return p + n;
    Char c = at(p, end);
    if (c.is(kL)) return skip(p + c.size, end, kL);
    if (c.is(kNumber)) return digits(p, end, 3);
    if (!c.is(kNewline)) {
        Char next = at(p + c.size, end);
        if (next.is(kL)) return skip(p + c.size + next.size, end, kL);
    }
    if (Bytes q = symbols(p, end)) return skip(q, end, kNewline);
    return spaces(p, end, true);
}

// HEAD*TAIL+ at p, or null. HEAD* is greedy, so if nothing of TAIL follows it, it gives back characters until the last
// one that TAIL also takes; TAIL+ is then that single character.
Bytes head_tail(Bytes p, Bytes end) {
    Bytes after_tail = nullptr, q = p;
    for (Char c = at(q, end); c.is(kHead); c = at(q, end)) {
        q += c.size;
        if (c.is(kTail)) after_tail = q;
    }
    Bytes r = skip(q, end, kTail);
    return r > q ? r : after_tail;
}

// HEAD+TAIL* at p, or null.
Bytes head(Bytes p, Bytes end) {
    Bytes q = skip(p, end, kHead);
    return q > p ? skip(q, end, kTail) : nullptr;
}

// A word of o200k with its optional leading symbol and contraction, or null: both case-aware alternatives of
// [^\r\n\p{L}\p{N}]?HEAD*TAIL+(?i:'s|…)? and [^\r\n\p{L}\p{N}]?HEAD+TAIL*(?i:'s|…)?
Bytes word(Bytes p, Bytes end) {
    const Char c = at(p, end);
    const bool lead = !c.is(kNewline | kL | kNumber);
    Bytes q = nullptr;
    if (lead) q = head_tail(p + c.size, end);
    if (!q && c.is(kHead | kTail)) q = head_tail(p, end);
    if (!q && lead) q = head(p + c.size, end);
    if (!q && c.is(kHead)) q = head(p, end);
    return q ? q + contraction(q, end, true) : nullptr;
}

// word | \p{N}{1,3} |  ?[^\s\p{L}\p{N}]+[\r\n/]* | \s*[\r\n]+ | \s+(?!\S) | \s+
Bytes o200k(Bytes p, Bytes end) {
    if (Bytes q = word(p, end)) return q;
    if (at(p, end).is(kNumber)) return digits(p, end, 3);
    if (Bytes q = symbols(p, end)) {
        while (q < end && (*q == '\r' || *q == '\n' || *q == '/')) ++q;
        return q;
    }
    return spaces(p, end, true);
}

}  // namespace

Scanner scanner(Pattern pattern) {
    switch (pattern) {
        case Pattern::Gpt2: return gpt2;
        case Pattern::Llama3: return llama3;
        case Pattern::O200k: return o200k;
        case Pattern::None: break;
    }
    return nullptr;
}

}  // namespace llamero
