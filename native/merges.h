// Byte-pair merging: text in UTF-8 to token ids, exactly as the tokenizers of the Llama family do it.
// Knows the rules of merging; of files it knows only a vocabulary, merges and scores. Const after construction, so
// threads may share one Encoder.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "matcher.h"
#include "pairs.h"
#include "split.h"
#include "vocabulary.h"

namespace llamero {

struct EncoderOptions {
    Pattern pattern = Pattern::None;  // how text is cut before merging
    bool whole = false;               // a piece that is itself a token is taken without merging
    bool prefix = false;              // SentencePiece: a space before the text
    bool collapse = false;            // SentencePiece: strip spaces at both ends and join runs of them
    int32_t bos = -1;                 // SentencePiece: text after this token starts anew, with its own prefix
    int32_t unknown = -1;             // SentencePiece without byte tokens: what a strange character becomes
};

class Encoder {
public:
    Encoder(Form form, const Strings& tokens, const uint8_t* kinds, const EncoderOptions& options);

    // How neighbours join; call exactly one. All throw VocabularyError.
    void use_merges(const Strings& merges);  // lines "left right", best first
    void use_scores(const float* scores);    // (size,); the highest first, any two whose joined bytes are a token
    void use_ids();                          // the lowest id first, any two whose joined bytes are a token

    // Appends the ids of `text` (UTF-8, below 4 GiB). `special`: tokens such as <|eot_id|> in the text become themselves.
    // `start`: the text begins here, so SentencePiece puts its space before it. `guard`, where not empty, keeps what it
    // stands in from being a special token, and is then taken out of the text.
    void encode(std::string_view text, bool special, bool start, std::string_view guard,
                std::vector<int32_t>& out) const;
    // The pieces that the split pattern makes of a text.
    std::vector<std::string_view> split(std::string_view text) const;
    // Joins as (left, right) ids, best first: what `use_merges` was given, or all that `use_ids` implies.
    std::vector<std::pair<int32_t, int32_t>> merges() const;
    const Vocabulary& vocabulary() const { return vocabulary_; }

private:
    struct Cache;
    int32_t joined_id(std::string_view bytes, int32_t last) const;
    void encode_text(std::string_view text, std::string_view guard, std::vector<int32_t>& out) const;
    void encode_plain(std::string_view text, std::vector<int32_t>& out) const;
    void encode_pieces(std::string_view text, Cache& cache, std::vector<int32_t>& out) const;
    void encode_spans(std::string_view text, Cache& cache, std::vector<int32_t>& out) const;
    void encode_piece(std::string_view piece, Cache& cache, std::vector<int32_t>& out) const;
    void merge(std::string_view piece, std::vector<int32_t>& out) const;
    void emit(std::string_view symbol, int32_t id, std::vector<int32_t>& out) const;
    void normalize(std::string_view text, bool start, bool last, std::string& out) const;

    Vocabulary vocabulary_;
    EncoderOptions options_;
    Matcher control_;             // taken from text only on request
    Matcher user_;                // always taken from text
    Pairs pairs_;                 // of use_merges
    std::vector<uint32_t> rank_;  // of use_scores and use_ids: (size,)
};

}  // namespace llamero
