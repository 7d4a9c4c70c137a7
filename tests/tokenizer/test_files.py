"""Every kind of file that a vocabulary comes in, the files beside it, and GGUF metadata there and back."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from llamero.errors import ModelNotFound, TokenizerError, UnsupportedError
from llamero.formats.gguf import GGUF, write_gguf
from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.from_tiktoken import define_tiktoken
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer

TEXTS = ["The quick brown fox", "  can't\n\n1984 日本語 🙂", "<think><|eot_id|><s>", "", "naïve\t  x "]
FACTS = ("vocab_size", "kind", "pre", "bos_id", "eos_id", "pad_id", "unk_id", "eot_id", "eom_id", "stop_ids", "add_bos",
         "special_tokens", "chat_template")  # fmt: skip


def assert_alike(a: Tokenizer, b: Tokenizer) -> None:
    assert {fact: getattr(a, fact) for fact in FACTS} == {fact: getattr(b, fact) for fact in FACTS}
    assert [a.piece(i) for i in range(a.vocab_size)] == [b.piece(i) for i in range(b.vocab_size)]
    for text in TEXTS:
        for special in (False, True):
            ids = a.encode(text, special=special)
            assert b.encode(text, special=special) == ids
            assert a.decode(ids, special=special) == b.decode(ids, special=special)


def through_a_file(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    write_gguf(path, {"general.architecture": "llama", **tokenizer.to_gguf()}, [])
    reader = GGUF.open(path)
    again = load_tokenizer(reader.metadata)
    reader.close()  # a tokenizer keeps nothing of the file
    return again


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": True},
        {"bos_id": -1, "pad_id": 1},
        {"byte_fallback": False, "vocab_size": 400},
    ],
)
def test_spm_to_gguf_and_back(small_model, tmp_path, options):
    (tmp_path / "tokenizer.model").write_bytes(small_model(**options))
    tokenizer = load_tokenizer(tmp_path)
    assert_alike(tokenizer, through_a_file(tokenizer, tmp_path / "a.gguf"))
    assert_alike(tokenizer, load_tokenizer(tmp_path / "a.gguf"))
    assert_alike(tokenizer, load_tokenizer(tokenizer.to_gguf()))


def test_bpe_to_gguf_and_back(bpe, tmp_path):
    assert_alike(bpe, through_a_file(bpe, tmp_path / "a.gguf"))
    assert_alike(bpe, load_tokenizer(bpe.to_gguf()))


def test_gguf_metadata_is_as_llama_cpp_expects(bpe, small_model, tmp_path):
    """Read by the gguf package's own vocabulary reader: key names and types."""
    gguf = pytest.importorskip("gguf")
    through_a_file(bpe, tmp_path / "a.gguf")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    kinds = {key: [kind.name for kind in field.types] for key, field in fields.items() if key.startswith("tokenizer")}
    assert kinds == {
        "tokenizer.ggml.model": ["STRING"],
        "tokenizer.ggml.pre": ["STRING"],
        "tokenizer.ggml.tokens": ["ARRAY", "STRING"],
        "tokenizer.ggml.token_type": ["ARRAY", "INT32"],
        "tokenizer.ggml.merges": ["ARRAY", "STRING"],
        "tokenizer.ggml.bos_token_id": ["UINT32"],
        "tokenizer.ggml.eos_token_id": ["UINT32"],
        "tokenizer.ggml.eot_token_id": ["UINT32"],
        "tokenizer.ggml.add_bos_token": ["BOOL"],
    }
    (tmp_path / "tokenizer.model").write_bytes(small_model())
    through_a_file(load_tokenizer(tmp_path), tmp_path / "b.gguf")
    fields = gguf.GGUFReader(tmp_path / "b.gguf").fields
    assert [kind.name for kind in fields["tokenizer.ggml.scores"].types] == ["ARRAY", "FLOAT32"]


@pytest.mark.parametrize("name", ["ggml-vocab-llama-spm.gguf", "ggml-vocab-gpt-2.gguf"])
def test_real_gguf_metadata_comes_back(shelved, name):
    """What llama.cpp's converter wrote is what we write, but for what we add."""
    metadata = GGUF.open(shelved(f"tokenizers/{name}")).metadata
    ours = load_tokenizer(metadata).to_gguf()
    for key, value in metadata.items():
        if key.startswith("tokenizer.ggml.") and key != "tokenizer.ggml.add_eos_token":
            assert list(ours[key]) == list(value) if hasattr(value, "__len__") else ours[key] == value, key


def test_rank_files_through_gguf(from_shelf, tmp_path):
    tokenizer = from_shelf("llama3_tokenizer.model")
    again = through_a_file(tokenizer, tmp_path / "a.gguf")
    assert_alike(tokenizer, again)


def test_llama2c(shelved, from_shelf):
    """The same vocabulary as in sentencepiece's file."""
    assert_alike(from_shelf("llama2_tokenizer.bin"), from_shelf("llama2_tokenizer.model"))
    data = shelved("tokenizers/llama2_tokenizer.bin").read_bytes()
    assert_alike(Tokenizer.from_llama2c(data), from_shelf("llama2_tokenizer.model"))


def test_small_llama2c():
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256)), b" a", b"a", b" "]
    entries = [struct.pack("<fi", -float(i), len(piece)) + piece for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer.from_llama2c(struct.pack("<i", 6) + b"".join(entries))
    assert tokenizer.encode("a a") == [1, 259, 259]
    assert tokenizer.encode("a\n") == [1, 259, 3 + 10]
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}


def hf_folder(folder: Path, root: dict, **files: dict) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_files_beside_a_tokenizer_json(small_json, bpe, tmp_path):
    named = bpe.special_tokens
    folder = hf_folder(
        tmp_path,
        small_json,
        tokenizer_config={
            "bos_token": "<|begin_of_text|>",
            "eos_token": {"content": "<|eot_id|>"},
            "pad_token": "<|end_of_text|>",
            "add_bos_token": False,
            "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}],
            "added_tokens_decoder": {str(named["<|eot_id|>"]): {"content": "<|eot_id|>", "special": True}},
        },
        generation_config={"eos_token_id": [named["<|eot_id|>"], named["<|end_header_id|>"], 10**9]},
    )
    tokenizer = load_tokenizer(folder)
    assert tokenizer.bos_id == named["<|begin_of_text|>"]
    assert tokenizer.eos_id == named["<|eot_id|>"]
    assert tokenizer.pad_id == named["<|end_of_text|>"]
    assert tokenizer.stop_ids == {named["<|eot_id|>"], named["<|end_of_text|>"], named["<|end_header_id|>"]}
    assert tokenizer.add_bos is False
    assert tokenizer.chat_template == "yes"
    (folder / "chat_template.jinja").write_text("of the file", encoding="utf-8")
    assert load_tokenizer(folder / "tokenizer.json").chat_template == "of the file"


def test_added_tokens_beside_a_sentencepiece_model(small_model, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(small_model())
    before = load_tokenizer(tmp_path)
    size = before.vocab_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": size, "<extra>": size + 1}))
    decoder = {"content": "<pad>", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {str(size): decoder}}))
    after = load_tokenizer(tmp_path)
    assert after.vocab_size == size + 2
    assert after.pad_id == size
    assert size not in after.encode("<pad>")
    assert after.encode("<pad>", bos=False, special=True) == [size]
    assert size + 1 in after.encode("a<extra>b")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<extra>": size + 5}))
    with pytest.raises(TokenizerError, match="do not continue"):
        load_tokenizer(tmp_path)


def test_meta_folders_share_the_tokenizer_above_them(small_model, tmp_path):
    (tmp_path / "7B").mkdir()
    (tmp_path / "7B" / "params.json").write_text("{}")
    (tmp_path / "tokenizer.model").write_bytes(small_model())
    assert load_tokenizer(tmp_path / "7B").kind == "spm"


def test_old_gguf_files_say_less(bpe, make_spm):
    """No types, no split pattern, no ids: the names and the looks of tokens tell."""
    metadata = bpe.to_gguf()
    for key in ("pre", "add_bos_token"):
        del metadata[f"tokenizer.ggml.{key}"]
    assert_alike(bpe, load_tokenizer(metadata))
    metadata["tokenizer.ggml.pre"] = "default"
    assert load_tokenizer(metadata).pre == "llama-bpe"
    spm = make_spm({"▁": 0.0, "a": -1.0, "▁a": -2.0})
    metadata = spm.to_gguf()
    for key in ("pre", "add_bos_token", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id"):
        del metadata[f"tokenizer.ggml.{key}"]
    assert_alike(spm, load_tokenizer(metadata))


def test_rank_files_of_other_sizes():
    data = b"".join(b"%s %d\n" % (b64encode(bytes([byte])), byte) for byte in range(256))
    with pytest.raises(TokenizerError, match="256 ranks are neither"):
        define_tiktoken(data)
    tokenizer = Tokenizer(define_tiktoken(data, pre="gpt-4o", special=["<|end_of_text|>"]))
    assert tokenizer.encode("ab<|end_of_text|>", special=True) == [97, 98, 256]


def test_nothing_there(tmp_path):
    for place in (tmp_path, tmp_path / "absent", tmp_path / "absent.gguf"):
        with pytest.raises(ModelNotFound, match="no tokenizer"):
            load_tokenizer(place)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "WordPiece"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "Unigram"),
        ({"normalizer": {"type": "NFC"}}, "NFC normalizer"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "pre_tokenizer"),
    ],
)
def test_other_kinds_are_refused_by_name(small_json, tmp_path, change, match):
    with pytest.raises(UnsupportedError, match=match):
        load_tokenizer(hf_folder(tmp_path, small_json | change))


def test_unknown_split_expression_is_named(small_json, tmp_path):
    root = json.loads(json.dumps(small_json))
    root["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\s+"}
    with pytest.raises(TokenizerError, match=r"no Llama uses, '\\\\w\+\|\\\\s\+'"):
        load_tokenizer(hf_folder(tmp_path, root))


def test_merges_of_another_algorithm_are_no_sentencepiece(tmp_path):
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"a": 256, "b": 257, "ab": 258, "ba": 259, "aba": 260}
    model = {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": ["a b", "b a", "a ba"]}
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    with pytest.raises(TokenizerError, match="'ab' 'a', which would make 'aba', is missing"):
        load_tokenizer(hf_folder(tmp_path, {"model": model, "normalizer": normalizer}))
    model["merges"] = ["a b", "b a", "a ba", "ab a"]
    tokenizer = load_tokenizer(hf_folder(tmp_path, {"model": model, "normalizer": normalizer}))
    assert tokenizer.encode("abab") == [258, 258]


@pytest.mark.parametrize("options", [{"model_type": "unigram"}, {"normalization_rule_name": "nmt_nfkc"}])
def test_other_sentencepiece_models_are_refused_by_name(small_model, tmp_path, options):
    if options.get("model_type") == "unigram":
        options = options | {"vocab_size": 360, "hard_vocab_limit": False}
    (tmp_path / "tokenizer.model").write_bytes(small_model(**options))
    with pytest.raises(UnsupportedError, match=r"unigram|rewrites characters"):
        load_tokenizer(tmp_path)


def test_other_gguf_models_are_refused_by_name(bpe):
    with pytest.raises(UnsupportedError, match="'bert'"):
        define_gguf(bpe.to_gguf() | {"tokenizer.ggml.model": "bert"})


def test_encode_array_is_what_corpora_want(bpe):
    ids = bpe.encode_array("The quick <|eot_id|>")
    assert ids.dtype == np.int32
    assert ids.tolist() == bpe.encode("The quick <|eot_id|>", bos=False)
