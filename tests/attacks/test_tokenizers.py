"""Attacks on the readers of vocabularies: cut and damaged files, absurd numbers, vocabularies that cannot work."""

from __future__ import annotations

import json
import random
import struct
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamero.errors import LlameroError, TokenizerError
from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.from_json import define_json
from llamero.tokenizer.from_llama2c import read_llama2c
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.from_tiktoken import define_tiktoken
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.patterns import LLAMA3
from llamero.tokenizer.tokenizer import Tokenizer

SHELF = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXT = "A text, 日本 <|eot_id|> <s>\n\n  é 1234"


# ---- small valid files, written here field by field -----------------------------------------------------------------


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def model(pieces: list[tuple[bytes, float, int]], trainer: bytes = field(3, 2), normalizer: bytes = b"") -> bytes:
    parts = [field(1, field(1, text) + field(2, score) + field(3, kind)) for text, score, kind in pieces]
    return b"".join(parts) + field(2, trainer) + field(3, field(4, 0) + normalizer)


def spm_pieces() -> list[tuple[bytes, float, int]]:
    special = [(b"<unk>", 0.0, 2), (b"<s>", 0.0, 3), (b"</s>", 0.0, 3)]
    words = ["▁", "a", "e", "t", "▁a", "te", "▁te"]
    return [
        *special,
        *((b.encode(), 0.0, 6) for b in BYTES),
        *((w.encode(), -float(i), 1) for i, w in enumerate(words)),
    ]


def gpt2_alphabet() -> list[str]:
    """GPT-2's character of each byte, written as its published code explains it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


def json_root() -> dict[str, Any]:
    tokens = [*gpt2_alphabet(), "te", "tex", "text", "Ġa"]
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    added = [{"id": 260, "content": "<|eot_id|>", "special": True}]
    return {
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": ["t e", ["te", "x"], "tex t", "Ġ a"],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "added_tokens": added,
    }


def llama2c_file() -> bytes:
    tokens = [b"<unk>", b"<s>", b"</s>", *(b.encode() for b in BYTES), b" ", b" a", b"te"]
    return struct.pack("<i", 6) + b"".join(struct.pack("<fi", 0.0, len(token)) + token for token in tokens)


def rank_file() -> bytes:
    tokens = [bytes([byte]) for byte in range(256)] + [b"te", b"tex"]
    return b"".join(b"%s %d\n" % (b64encode(token), i) for i, token in enumerate(tokens))


def from_ranks(data: bytes) -> Tokenizer:
    return Tokenizer(define_tiktoken(data, pre="llama-bpe", special=["<|eot_id|>"]))


def from_model(data: bytes) -> Tokenizer:
    return Tokenizer(define_sentencepiece(data))


def from_json(data: bytes) -> Tokenizer:
    return Tokenizer(define_json(data))


def from_llama2c(data: bytes) -> Tokenizer:
    return Tokenizer(read_llama2c(data))


def from_root(root: dict[str, Any]) -> Tokenizer:
    return from_json(json.dumps(root).encode())


def from_metadata(metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer(define_gguf(metadata))


READERS: dict[str, tuple[Callable[[bytes], Tokenizer], bytes]] = {
    "tokenizer.model": (from_model, model(spm_pieces())),
    "ranks": (from_ranks, rank_file()),
    "tokenizer.json": (from_json, json.dumps(json_root()).encode()),
    "tokenizer.bin": (from_llama2c, llama2c_file()),
}


def use(tokenizer: Tokenizer) -> None:
    """Whatever loads must also work: text goes in and comes out, and the tokenizer can be written."""
    ids = tokenizer.encode(TEXT, special=True)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    tokenizer.decode(ids, special=True)
    with suppress(LlameroError):  # tokens that are not UTF-8
        tokenizer.to_gguf()


@pytest.mark.parametrize("name", READERS)
def test_the_files_to_be_damaged_are_good(name):
    reader, data = READERS[name]
    tokenizer = reader(data)
    use(tokenizer)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


# ---- cut and damaged files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("fiftieth", range(50))
def test_cut_files(refused, name, fiftieth):
    reader, data = READERS[name]
    cut = len(data) * fiftieth // 50
    if name == "tokenizer.bin" and fiftieth == 49:
        cut -= 1  # inside a token: between two of them such a file cannot tell that it has been cut
    refused(reader, data[:cut])


@pytest.mark.parametrize("name", ["llama2_tokenizer.model", "llama3_tokenizer.model", "llama2_tokenizer.json"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_cut_real_files(refused, tmp_path, name, tenth):
    if not (SHELF / name).exists():
        pytest.skip(f"the data shelf has no {name}")
    data = (SHELF / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * tenth // 10])
    assert name in str(refused(load_tokenizer, path))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 4))
def test_damaged_files_load_or_are_refused(name, seed, cuts):
    """Bytes overwritten, removed, repeated, swapped: a tokenizer that works, or a named error."""
    reader, data = READERS[name]
    rng = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(cuts):
        a, b = sorted(rng.randrange(len(damaged) + 1) for _ in range(2))
        b = min(b, a + rng.choice([1, 1, 2, 8, 100]))
        damaged[a:b] = rng.choice([b"", damaged[a:b] * 2, rng.randbytes(b - a), b"\xff" * 9, b"\x00", b"9" * 30])
    with suppress(LlameroError):
        use(reader(bytes(damaged)))


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_refused(name, data):
    with pytest.raises(LlameroError):
        READERS[name][0](data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**65) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(seed=st.integers(0, 2**32), value=VALUES)
def test_any_value_anywhere_in_a_json(seed, value):
    """Each part of a tokenizer.json in turn is something else."""
    rng, root = random.Random(seed), json_root()
    parent: Any = root
    while True:
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        if not isinstance(parent[key], (dict, list)) or not parent[key] or rng.random() < 0.2:
            break
        parent = parent[key]
    parent[key] = value
    with suppress(LlameroError):
        use(from_root(root))


KEYS = ["model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "add_bos_token", "add_space_prefix"]


@settings(max_examples=300, deadline=None)
@given(spm=st.booleans(), key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_gguf_key(spm, key, value):
    good = from_model(READERS["tokenizer.model"][1]) if spm else from_json(READERS["tokenizer.json"][1])
    with suppress(LlameroError):
        use(from_metadata(good.to_gguf() | {f"tokenizer.ggml.{key}": value}))


@pytest.mark.parametrize("beside", ["tokenizer_config", "special_tokens_map", "added_tokens", "generation_config"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES, key=st.sampled_from(["bos_token", "chat_template", "eos_token_id", "added_tokens_decoder", "a"]))
def test_any_value_in_the_files_beside(tmp_path, beside, value, key):
    (tmp_path / "tokenizer.json").write_text(json.dumps(json_root()), encoding="utf-8")
    (tmp_path / f"{beside}.json").write_text(json.dumps({key: value}), encoding="utf-8")
    with suppress(LlameroError):
        use(load_tokenizer(tmp_path))


# ---- absurd numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        varint(1 << 3 | 2) + varint(2**63) + b"abc",
        varint(1 << 3 | 2) + b"\xff" * 11,
        varint(1 << 3 | 2) + varint(2**31) + b"abc",
        b"\xff" * 100,
        varint(1 << 3 | 3) + b"group",
        varint(0) + b"\x00" * 100,
        field(1, 7),
        field(1, field(2, b"not a number")),
        field(1, field(1, b"a") + field(3, 99)),
        b"",
    ],
)
def test_absurd_protocol_buffers(refused, data):
    assert "tokenizer.model" in str(refused(from_model, data))


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31 - 1, 10**6])
def test_absurd_lengths_in_llama2c_files(refused, length):
    assert "token 3" in str(refused(from_llama2c, llama2c_file()[: 4 + 3 * 8 + 12] + struct.pack("<fi", 0.0, length)))


@pytest.mark.parametrize("number", [2**40, -1, 10**30, 10**5, 1.5, True, "7", None])
def test_absurd_ids(refused, number):
    root = json_root()
    root["model"]["vocab"]["te"] = number
    refused(from_root, root)
    root = json_root()
    root["added_tokens"][0]["id"] = number
    refused(from_root, root)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"model": ' + b"9" * 1_000_000 + b"}",
        b"nul",
        b"\xff\xfe{}",
        b"[1, 2]",
        b"{}",
    ],
)
def test_json_bombs(refused, data):
    assert "tokenizer.json" in str(refused(from_json, data))


@pytest.mark.parametrize("role", ["bos", "eos", "unknown", "padding", "eot", "eom"])
@pytest.mark.parametrize("number", [-1, 266, 2**31, 2**64 - 1])
def test_roles_outside_the_vocabulary(refused, role, number):
    good = from_model(READERS["tokenizer.model"][1])
    assert good.vocab_size == 266
    error = refused(from_metadata, good.to_gguf() | {f"tokenizer.ggml.{role}_token_id": number})
    assert str(number) in str(error)


# ---- vocabularies that cannot work -----------------------------------------------------------------------------------


def spm_metadata(**changes: Any) -> dict[str, Any]:
    metadata = from_model(READERS["tokenizer.model"][1]).to_gguf()
    return metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def bpe_metadata(**changes: Any) -> dict[str, Any]:
    metadata = from_json(READERS["tokenizer.json"][1]).to_gguf()
    return metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


def changed(values: Any, at: int, value: Any) -> list[Any]:
    return [*list(values)[:at], value, *list(values)[at + 1 :]]


SPM, BPE = spm_metadata(), bpe_metadata()
SPM_TOKENS, SPM_TYPES = SPM["tokenizer.ggml.tokens"], SPM["tokenizer.ggml.token_type"].tolist()
BPE_TOKENS, BPE_TYPES = BPE["tokenizer.ggml.tokens"], BPE["tokenizer.ggml.token_type"].tolist()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (spm_metadata(tokens=changed(SPM_TOKENS, 260, "")), "token 260 is empty"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 260, "e")), "token 261 'e' is the same as token 260"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 1, "</s>")), "token 2 is the same as another special token"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 7, "<0x00>")), "token 7 stands for the same byte as token 3"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 7, "<0xZZ>")), "token 7 '<0xZZ>' should name a byte"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 260, "x" * 5000)), "token 260 is longer than 4096 bytes"),
        (spm_metadata(tokens=changed(SPM_TOKENS, 1, "x" * 2000)), "token 1 is special and longer than 1024 bytes"),
        (spm_metadata(token_type=changed(SPM_TYPES, 7, 1)), "1 of the 256 bytes have no token, 0x04 first"),
        (spm_metadata(token_type=[2, 3, 3] + [1] * 263), "no tokens stand for the 256 bytes"),
        (spm_metadata(token_type=changed(SPM_TYPES, 5, 7)), "token 5 has the unknown type 7"),
        (spm_metadata(token_type=changed(SPM_TYPES, 5, 300)), "token_type holds a number that is no type"),
        (spm_metadata(token_type=SPM_TYPES[:-1]), "266 tokens have 265 types"),
        (spm_metadata(scores=[0.0] * 265), "266 tokens have 265 scores"),
        (spm_metadata(scores=[float("nan")] * 266), "score that is not a number"),
        (spm_metadata(scores=None), "scores must be an array of numbers"),
        (spm_metadata(scores=["a"] * 266), "scores must be an array of numbers"),
        (spm_metadata(tokens=None), "tokens must be an array of strings"),
        (spm_metadata(tokens=[]), "outside this vocabulary of 0 tokens"),
        (spm_metadata(tokens=[1, 2]), "tokens must be an array of strings"),
        (bpe_metadata(tokens=changed(BPE_TOKENS, 0, "tee")), "1 of the 256 bytes have no token, 0x00 first"),
        (bpe_metadata(tokens=changed(BPE_TOKENS, 259, "te")), "token 259 'te' is the same as token 256"),
        (bpe_metadata(tokens=changed(BPE_TOKENS, 259, "日")), "token 259 '???' is not written in the byte-level"),
        (bpe_metadata(tokens=changed(BPE_TOKENS, 259, "a b")), "token 259 'a b' is not written in the byte-level"),
        (bpe_metadata(merges=["t e", "te q"]), "merge 1 names something that is not a token"),
        (bpe_metadata(merges=["te"]), "merge 0 is not two tokens"),
        (bpe_metadata(merges=[""]), "merge 0 is not two tokens"),
        (bpe_metadata(merges=[" t"]), "merge 0 is not two tokens"),
        (bpe_metadata(merges=["t 日"]), "merge 0 is not written in the byte-level"),
        (bpe_metadata(merges=None), "merges must be an array of strings"),
        (bpe_metadata(pre="llama-5"), "'llama-5'"),
        (bpe_metadata(pre=7), "pre must be a string"),
        (bpe_metadata(add_bos_token="yes"), "add_bos_token must be true or false"),
        (bpe_metadata(bos_token_id="<s>"), "bos_token_id must be a whole number"),
    ],
)  # fmt: skip
def test_vocabularies_that_cannot_work(refused, metadata, message):
    error = refused(from_metadata, metadata)
    assert isinstance(error, TokenizerError)
    assert message in str(error)


def test_special_tokens_that_are_not_utf8(refused):
    pieces = spm_pieces()
    pieces[1] = (b"<\xff>", 0.0, 3)
    assert "special token 1 is not UTF-8" in str(refused(from_model, model(pieces)))
    pieces = spm_pieces()
    pieces[-1] = (b"\xff\xfe", 0.0, 1)
    assert "not UTF-8" in str(refused(from_model(model(pieces)).to_gguf))


def test_an_added_token_that_strips_is_refused(refused):
    root = json_root()
    root["added_tokens"][0]["lstrip"] = True
    assert "asks for lstrip" in str(refused(from_root, root))


def test_merges_repeated_without_end():
    """The first of equal merges counts, and the rest take no time."""
    merges = ["t e"] * 300_000
    tokenizer = from_metadata(bpe_metadata(merges=merges))
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_a_long_special_token_does_not_slow_text():
    tokens = changed(SPM_TOKENS, 1, "a" * 1000 + "b")
    tokenizer = from_metadata(spm_metadata(tokens=tokens))
    assert len(tokenizer.encode("a" * 100_000, special=True, bos=False)) > 0


def test_arrays_of_other_types_are_taken(refused):
    metadata = spm_metadata(token_type=np.array(SPM_TYPES, np.int64), scores=np.zeros(266, np.float64))
    use(from_metadata(metadata))
    refused(from_metadata, spm_metadata(token_type=np.zeros((2, 133), np.int32)))
