#include "merges.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "merge_loop.h"

namespace llamero {
namespace {

constexpr size_t kFew = 32;                     // up to here scanning beats the heap
constexpr size_t kLongestCached = 256;          // pieces longer than this seldom come twice
constexpr size_t kLongestSpecial = 1024;        // bounds the work at each place of a text
constexpr char kUnderscore[] = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

bool continues(char c) { return (uint8_t(c) & 0xC0) == 0x80; }

size_t character(std::string_view text, size_t at) {
    size_t end = at + 1;
    while (end < text.size() && end - at < 4 && continues(text[end])) ++end;
    return end - at;
}

struct JoinByPair {
    const Pairs& pairs;
    Join operator()(std::string_view, int32_t left, int32_t right) const { return pairs.find(left, right); }
};

struct JoinByText {
    const Vocabulary& vocabulary;
    const std::vector<uint32_t>& rank;
    Join operator()(std::string_view both, int32_t, int32_t) const {
        if (both.size() > vocabulary.longest()) return {kNever, -1};
        const int32_t id = vocabulary.find(both);
        return id < 0 ? Join{kNever, -1} : Join{rank[size_t(id)], id};
    }
};

}  // namespace

// Pieces met before in this text: where they stood and which ids they gave. Holds no bytes of its own: the text and the
// ids already written are the storage.
struct Encoder::Cache {
    struct Entry {
        uint32_t at, size, out, count;
    };
    const char* text;
    std::unique_ptr<Entry[]> entries;
    size_t mask = 0;

    Cache(std::string_view whole, bool wanted) : text(whole.data()) {
        if (!wanted || whole.size() < 1024) return;
        size_t count = 256;
        while (count < whole.size() / 8 && count < 32768) count *= 2;
        entries = std::make_unique<Entry[]>(count);
        mask = count - 1;
    }
    Entry* slot(std::string_view piece, uint64_t hash) const {
        return entries && piece.size() <= kLongestCached ? &entries[size_t(hash >> 20) & mask] : nullptr;
    }
    bool holds(const Entry& entry, std::string_view piece) const {
        return entry.size == piece.size() && std::memcmp(text + entry.at, piece.data(), piece.size()) == 0;
    }
};

Encoder::Encoder(Form form, const Strings& tokens, const uint8_t* kinds, const EncoderOptions& options)
    : vocabulary_(form, tokens, kinds), options_(options) {
    if (!vocabulary_.has_bytes() && (options.unknown < 0 || size_t(options.unknown) >= tokens.count)) {
        throw VocabularyError("no tokens stand for the 256 bytes: some texts could not be encoded");
    }
    for (int32_t id = 0; size_t(id) < vocabulary_.size(); ++id) {
        const Kind kind = vocabulary_.kind(id);
        if (kind != Kind::Control && kind != Kind::Unknown && kind != Kind::User) continue;
        const std::string_view piece = vocabulary_.piece(id);
        const std::string name = "token " + std::to_string(id);
        if (piece.size() > kLongestSpecial) throw VocabularyError(name + " is special and longer than 1024 bytes");
        Matcher& matcher = kind == Kind::User ? user_ : control_;
        if (!matcher.add(piece, id)) throw VocabularyError(name + " is the same as another special token");
        const size_t space = piece.find(' ');
        if (form != Form::SentencePiece || kind == Kind::User || space == std::string_view::npos) continue;
        // Such a token can be written in a text in both ways; user-defined ones are sought after spaces are made one.
        std::string visible(piece);
        for (size_t at = space; at != std::string::npos; at = visible.find(' ', at)) visible.replace(at, 1, kUnderscore);
        matcher.add(visible, id);
    }
}

void Encoder::use_merges(const Strings& merges) {
    pairs_.reserve(merges.count);
    std::vector<Pairs::Slot> ready;
    const auto add_ready = [&] {
        for (const Pairs::Slot& slot : ready) pairs_.add(slot.left, slot.right, slot.join);  // of equal ones the first counts
        ready.clear();
    };
    int32_t joined = -1;
    for (size_t i = 0; i < merges.count; ++i) {
        const auto refuse = [i](const char* what) { throw VocabularyError("merge " + std::to_string(i) + " " + what); };
        const std::string_view line = merges[i];
        const size_t space = line.empty() ? std::string_view::npos : line.find(' ', 1);
        if (space == std::string_view::npos) refuse("is not two tokens with a space between");
        if (line.size() > kLongestToken + 1) refuse("is longer than any token");
        char bytes[kLongestToken + 1];
        const char* middle = from_byte_level(line.substr(0, space), bytes);
        const char* end = middle ? from_byte_level(line.substr(space + 1), bytes + (middle - bytes)) : nullptr;
        if (!end) refuse("is not written in the byte-level alphabet");
        const std::string_view both(bytes, size_t(end - bytes));
        const int32_t left = vocabulary_.find(both.substr(0, size_t(middle - bytes)));
        const int32_t right = vocabulary_.find(both.substr(size_t(middle - bytes)));
        joined = joined_id(both, joined);
        if (left < 0 || right < 0 || joined < 0) refuse("names something that is not a token");
        pairs_.expect(left, right);
        ready.push_back({left, right, {uint32_t(i), joined}});
        if (ready.size() == 32) add_ready();
    }
    add_ready();
}

// Files list merges in the order of what they make, so the token is mostly the last one again, or the one after it.
int32_t Encoder::joined_id(std::string_view bytes, int32_t last) const {
    for (const int32_t id : {last, last + 1}) {
        const bool normal = id >= 0 && size_t(id) < vocabulary_.size() && vocabulary_.kind(id) == Kind::Normal;
        if (normal && vocabulary_.is(id, bytes)) return id;
    }
    return vocabulary_.find(bytes);
}

void Encoder::use_scores(const float* scores) {
    std::vector<int32_t> ids(vocabulary_.size());
    std::iota(ids.begin(), ids.end(), 0);
    for (int32_t id : ids) {
        if (std::isnan(scores[id])) throw VocabularyError("token " + std::to_string(id) + " has a score that is not a number");
    }
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
    rank_.resize(ids.size());
    uint32_t rank = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
        if (i && scores[ids[i]] != scores[ids[i - 1]]) ++rank;
        rank_[size_t(ids[i])] = rank;
    }
}

void Encoder::use_ids() {
    rank_.resize(vocabulary_.size());
    std::iota(rank_.begin(), rank_.end(), 0u);
}

void Encoder::encode(std::string_view text, bool special, bool start, std::string_view guard,
                     std::vector<int32_t>& out) const {
    std::string scratch;
    size_t at = 0;
    while (at < text.size()) {
        Matcher::Match match{text.size(), 0, -1};
        if (special) match = control_.find(text, at);
        std::string_view plain = text.substr(at, match.start - at);
        if (!plain.empty() && vocabulary_.form() == Form::SentencePiece) {
            normalize(plain, start, match.size == 0, scratch);
            plain = scratch;
        }
        if (!plain.empty()) {
            encode_text(plain, guard, out);
            start = false;
        }
        if (match.size) {
            out.push_back(match.id);
            start = match.id == options_.bos;
        }
        at = match.start + match.size;
    }
}

// The text as SentencePiece sees it, with a plain space for its visible one.
void Encoder::normalize(std::string_view text, bool start, bool last, std::string& out) const {
    out.clear();
    out.reserve(text.size() + 1);
    size_t i = 0;
    bool after_space = options_.collapse && start;
    if (after_space) i = std::min(text.find_first_not_of(' '), text.size());
    if (i == text.size()) return;
    if (start && options_.prefix) out += ' ';
    while (i < text.size()) {
        if (text[i] == '\xE2' && text.compare(i, 3, kUnderscore) == 0) {
            out += ' ';
            i += 3;
            after_space = false;
        } else {
            if (!(after_space && text[i] == ' ')) out += text[i];
            after_space = options_.collapse && text[i] == ' ';
            ++i;
        }
    }
    while (options_.collapse && last && !out.empty() && out.back() == ' ') out.pop_back();
}

void Encoder::encode_text(std::string_view text, std::string_view guard, std::vector<int32_t>& out) const {
    std::string cleaned;
    size_t at = 0;
    while (at < text.size()) {
        Matcher::Match match{text.size(), 0, -1};
        if (!user_.empty()) match = user_.find(text, at);
        std::string_view plain = text.substr(at, match.start - at);
        if (!guard.empty() && plain.find(guard) != std::string_view::npos) {
            cleaned.clear();
            for (size_t next; (next = plain.find(guard)) != std::string_view::npos; plain.remove_prefix(next + guard.size())) {
                cleaned += plain.substr(0, next);
            }
            cleaned += plain;
            plain = cleaned;
        }
        if (!plain.empty()) encode_plain(plain, out);
        if (match.size) out.push_back(match.id);
        at = match.start + match.size;
    }
}

void Encoder::encode_plain(std::string_view text, std::vector<int32_t>& out) const {
    const size_t before = out.size();
    if (vocabulary_.has_bytes()) {
        Cache cache(text, true);
        if (vocabulary_.form() == Form::SentencePiece) encode_spans(text, cache, out);
        else encode_pieces(text, cache, out);
        return;
    }
    Cache cache(text, false);  // it counts on ids staying where they are written
    encode_spans(text, cache, out);
    // Strange characters side by side are one unknown token, as in sentencepiece.
    const auto twice = [&](int32_t a, int32_t b) { return a == options_.unknown && a == b; };
    out.erase(std::unique(out.begin() + ptrdiff_t(before), out.end(), twice), out.end());
}

void Encoder::encode_pieces(std::string_view text, Cache& cache, std::vector<int32_t>& out) const {
    const Scanner scan = scanner(options_.pattern);
    if (!scan) return encode_piece(text, cache, out);
    const uint8_t* p = reinterpret_cast<const uint8_t*>(text.data());
    const uint8_t* const end = p + text.size();
    while (p < end) {
        const uint8_t* next = scan(p, end);
        encode_piece({reinterpret_cast<const char*>(p), size_t(next - p)}, cache, out);
        p = next;
    }
}

// SentencePiece merges over a whole text, but never across two bytes that stand side by side in no token: cutting there
// changes nothing and leaves words.
void Encoder::encode_spans(std::string_view text, Cache& cache, std::vector<int32_t>& out) const {
    size_t from = 0;
    for (size_t i = 1; i < text.size(); ++i) {
        if (vocabulary_.adjacent(uint8_t(text[i - 1]), uint8_t(text[i])) || continues(text[i])) continue;
        encode_piece(text.substr(from, i - from), cache, out);
        from = i;
    }
    encode_piece(text.substr(from), cache, out);
}

void Encoder::encode_piece(std::string_view piece, Cache& cache, std::vector<int32_t>& out) const {
    const uint64_t hash = hash_bytes(piece.data(), piece.size());
    if (options_.whole) {
        const int32_t id = vocabulary_.find(piece, hash);
        if (id >= 0) {
            out.push_back(id);
            return;
        }
    }
    Cache::Entry* entry = cache.slot(piece, hash);
    const size_t from = out.size();
    if (entry && cache.holds(*entry, piece)) {
        const size_t met = entry->out, count = entry->count;
        out.resize(from + count);
        std::copy_n(out.data() + met, count, out.data() + from);
        return;
    }
    merge(piece, out);
    if (!entry) return;
    *entry = {uint32_t(piece.data() - cache.text), uint32_t(piece.size()), uint32_t(from), uint32_t(out.size() - from)};
}

void Encoder::merge(std::string_view piece, std::vector<int32_t>& out) const {
    const bool characters = vocabulary_.form() == Form::SentencePiece;
    std::vector<Symbol> many;
    Symbol few[kFew + 1];
    size_t n = 0;
    for (size_t at = 0; at < piece.size();) {
        const size_t size = characters ? character(piece, at) : 1;
        const int32_t id = characters ? vocabulary_.find(piece.substr(at, size)) : vocabulary_.byte(uint8_t(piece[at]));
        if (n == kFew) many.assign(few, few + kFew);
        if (n < kFew) few[n] = {uint32_t(at), id};
        else many.push_back({uint32_t(at), id});
        at += size;
        ++n;
    }
    const auto emit = [&](std::string_view bytes, int32_t id) { this->emit(bytes, id, out); };
    const auto run = [&](const auto& join) {
        const Symbol end{uint32_t(piece.size()), -1};
        if (n > kFew) {
            many.push_back(end);
            MergeMany(piece, many, join).each(emit);
            return;
        }
        Join joins[kFew];
        few[n] = end;
        const size_t left = merge_few(piece, few, joins, n, join);
        for (size_t i = 0; i < left; ++i) emit(piece.substr(few[i].start, few[i + 1].start - few[i].start), few[i].id);
    };
    if (rank_.empty()) run(JoinByPair{pairs_});
    else run(JoinByText{vocabulary_, rank_});
}

void Encoder::emit(std::string_view symbol, int32_t id, std::vector<int32_t>& out) const {
    if (id >= 0) {
        out.push_back(id);
    } else if (vocabulary_.has_bytes()) {
        for (char c : symbol) out.push_back(vocabulary_.byte(uint8_t(c)));
    } else {
        out.push_back(options_.unknown);
    }
}

std::vector<std::string_view> Encoder::split(std::string_view text) const {
    std::vector<std::string_view> pieces;
    const Scanner scan = scanner(options_.pattern);
    const uint8_t* p = reinterpret_cast<const uint8_t*>(text.data());
    const uint8_t* const end = p + text.size();
    while (p < end) {
        const uint8_t* next = scan ? scan(p, end) : end;
        pieces.emplace_back(reinterpret_cast<const char*>(p), size_t(next - p));
        p = next;
    }
    return pieces;
}

std::vector<std::pair<int32_t, int32_t>> Encoder::merges() const {
    std::vector<Pairs::Slot> found;
    for (const Pairs::Slot& slot : pairs_.slots()) {
        if (slot.left >= 0) found.push_back(slot);
    }
    for (int32_t id = 0; size_t(id) < rank_.size(); ++id) {
        const std::string_view piece = vocabulary_.piece(id);
        if (vocabulary_.kind(id) != Kind::Normal) continue;
        for (size_t cut = 1; cut < piece.size(); ++cut) {
            const int32_t left = vocabulary_.find(piece.substr(0, cut)), right = vocabulary_.find(piece.substr(cut));
            if (left >= 0 && right >= 0) found.push_back({left, right, {rank_[size_t(id)], id}});
        }
    }
    std::sort(found.begin(), found.end(), [](const Pairs::Slot& a, const Pairs::Slot& b) {
        if (a.join.rank != b.join.rank) return a.join.rank < b.join.rank;
        return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
    std::vector<std::pair<int32_t, int32_t>> merges;
    merges.reserve(found.size());
    for (const Pairs::Slot& slot : found) merges.emplace_back(slot.left, slot.right);
    return merges;
}

}  // namespace llamero
