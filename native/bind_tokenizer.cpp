// The tokenizer's door to Python: checks bounds and counts, releases the GIL, calls. No rules of its own.
#include "bind.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <string>
#include <vector>

#include "merges.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using llamero::Encoder;

template <class T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr size_t kLongestText = UINT32_MAX - 64;
constexpr size_t kWorthReleasing = 2048;  // below this, handing the GIL over costs more than encoding

llamero::Strings strings(const Array<uint8_t>& buffer, const Array<uint64_t>& starts, const Array<uint64_t>& ends) {
    if (starts.size() != ends.size()) throw nb::value_error("as many starts as ends are needed");
    for (size_t i = 0; i < starts.size(); ++i) {
        if (starts.data()[i] > ends.data()[i] || ends.data()[i] > buffer.size()) {
            throw llamero::VocabularyError("string " + std::to_string(i) + " lies outside its buffer");
        }
    }
    return {buffer.data(), starts.data(), ends.data(), starts.size()};
}

void create(Encoder* self, int form, Array<uint8_t> buffer, Array<uint64_t> starts, Array<uint64_t> ends,
            Array<uint8_t> kinds, int pattern, bool whole, bool prefix, bool collapse, int32_t bos, int32_t unknown) {
    if (form < 0 || form > 2) throw nb::value_error("no such form");
    if (pattern < 0 || pattern > 3) throw nb::value_error("no such pattern");
    const llamero::Strings tokens = strings(buffer, starts, ends);
    if (kinds.size() != tokens.count) throw nb::value_error("as many kinds as tokens are needed");
    const llamero::EncoderOptions options{llamero::Pattern(pattern), whole, prefix, collapse, bos, unknown};
    new (self) Encoder(llamero::Form(form), tokens, kinds.data(), options);
}

void use_merges(Encoder& self, Array<uint8_t> buffer, Array<uint64_t> starts, Array<uint64_t> ends) {
    self.use_merges(strings(buffer, starts, ends));
}

void use_scores(Encoder& self, Array<float> scores) {
    if (scores.size() != self.vocabulary().size()) throw nb::value_error("as many scores as tokens are needed");
    self.use_scores(scores.data());
}

std::string_view view(const nb::bytes& text) {
    if (text.size() > kLongestText) throw nb::value_error("the text is longer than 4 GiB");
    return {text.c_str(), text.size()};
}

std::vector<int32_t> encode(const Encoder& self, const nb::bytes& text, bool special, bool start, const nb::bytes& guard) {
    const std::string_view utf8 = view(text), mark = view(guard);
    std::vector<int32_t> ids;
    std::optional<nb::gil_scoped_release> released;
    if (utf8.size() > kWorthReleasing) {
        released.emplace();
        ids.reserve(utf8.size() / 3);
    }
    self.encode(utf8, special, start, mark, ids);
    return ids;
}

nb::list encode_list(const Encoder& self, const nb::bytes& text, bool special, bool start, const nb::bytes& guard) {
    const std::vector<int32_t> ids = encode(self, text, special, start, guard);
    nb::list list = nb::steal<nb::list>(PyList_New(Py_ssize_t(ids.size())));
    if (!list.is_valid()) throw nb::python_error();
    for (size_t i = 0; i < ids.size(); ++i) PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), PyLong_FromLong(ids[i]));
    return list;
}

template <class T>
nb::ndarray<nb::numpy, T, nb::c_contig> numpy(std::vector<T>&& values, std::initializer_list<size_t> shape) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::ndarray<nb::numpy, T, nb::c_contig>(kept->data(), shape, owner);
}

auto encode_array(const Encoder& self, const nb::bytes& text, bool special, bool start, const nb::bytes& guard) {
    std::vector<int32_t> ids = encode(self, text, special, start, guard);
    ids.shrink_to_fit();
    const size_t count = ids.size();
    return numpy(std::move(ids), {count});
}

nb::bytes piece(const Encoder& self, int64_t id) {
    if (id < 0 || size_t(id) >= self.vocabulary().size()) throw nb::index_error();
    const std::string_view bytes = self.vocabulary().piece(int32_t(id));
    return nb::bytes(bytes.data(), bytes.size());
}

// The bytes of every token, one after another, and where each ends.
nb::tuple pieces(const Encoder& self, bool byte_level) {
    std::string all;
    std::vector<uint64_t> ends;
    const auto& vocabulary = self.vocabulary();
    for (int32_t id = 0; size_t(id) < vocabulary.size(); ++id) {
        const bool plain = !byte_level || vocabulary.kind(id) != llamero::Kind::Normal;
        all += plain ? std::string(vocabulary.piece(id)) : llamero::to_byte_level(vocabulary.piece(id));
        ends.push_back(all.size());
    }
    const size_t count = ends.size();
    return nb::make_tuple(nb::bytes(all.data(), all.size()), numpy(std::move(ends), {count}));
}

auto merges(const Encoder& self) {
    std::vector<int32_t> flat;
    for (const auto& [left, right] : self.merges()) {
        flat.push_back(left);
        flat.push_back(right);
    }
    const size_t rows = flat.size() / 2;
    return numpy(std::move(flat), {rows, 2});
}

nb::list split(const Encoder& self, const nb::bytes& text) {
    nb::list list;
    for (std::string_view part : self.split(view(text))) list.append(nb::bytes(part.data(), part.size()));
    return list;
}

}  // namespace

void bind_tokenizer(nb::module_& m) {
    nb::class_<Encoder>(m, "Encoder", "Byte-pair encoding of a fixed vocabulary; see tokenizer/merges.py.")
        .def("__init__", &create, "form"_a, "buffer"_a, "starts"_a, "ends"_a, "kinds"_a, nb::kw_only(), "pattern"_a,
             "whole"_a, "prefix"_a, "collapse"_a, "bos"_a, "unknown"_a)
        .def("use_merges", &use_merges, "buffer"_a, "starts"_a, "ends"_a)
        .def("use_scores", &use_scores, "scores"_a)
        .def("use_ids", &Encoder::use_ids)
        .def("encode", &encode_list, "text"_a, "special"_a, "start"_a, "guard"_a)
        .def("encode_array", &encode_array, "text"_a, "special"_a, "start"_a, "guard"_a)
        .def("piece", &piece, "id"_a)
        .def("pieces", &pieces, "byte_level"_a)
        .def("merges", &merges)
        .def("split", &split, "text"_a)
        .def("__len__", [](const Encoder& self) { return self.vocabulary().size(); });
}
