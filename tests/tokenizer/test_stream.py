"""Streaming gives what decoding gives, and never half a character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def tokenizers(bpe, make_spm):
    pieces = {"▁": 0.0, "a": -1.0, "▁a": -2.0, "▁▁": -3.0, "日": -4.0}
    return [bpe, make_spm(pieces), make_spm(pieces, remove_extra_whitespaces=True)]


def streamed(tokenizer, ids: list[int], **options) -> str:
    stream = tokenizer.stream(**options)
    return "".join([*map(stream.push, ids), stream.flush()])


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, 2),
    seeds=st.lists(st.integers(0, 10**6), max_size=24),
    special=st.booleans(),
    start=st.booleans(),
)
def test_any_ids_stream_as_they_decode(tokenizers, which, seeds, special, start):
    tokenizer = tokenizers[which]
    ids = [seed % tokenizer.vocab_size for seed in seeds]
    options = {"special": special, "start": start}
    assert streamed(tokenizer, ids, **options) == tokenizer.decode(ids, **options)


@settings(max_examples=300, deadline=None)
@given(which=st.integers(0, 1), text=st.text(max_size=40))
def test_texts_stream_whole_characters(tokenizers, which, text):
    tokenizer = tokenizers[which]
    stream = tokenizer.stream()
    given_out = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(given_out) == (text.replace("▁", " ") if which else text)
    assert all("\ufffd" not in part for part in given_out) or "\ufffd" in text
    assert stream.flush() == ""


def test_a_character_waits_until_it_is_whole(bpe):
    ids = bpe.encode("é🙂", bos=False)
    raw = [bytes([byte]) for byte in "🙂".encode()]
    single = [bpe.encode("a", bos=False)[0]] + [next(i for i in range(256) if bpe.piece(i) == byte) for byte in raw]
    stream = bpe.stream()
    assert [stream.push(token) for token in single] == ["a", "", "", "", "🙂"]
    assert streamed(bpe, ids) == "é🙂"


def test_an_unfinished_character_is_shown_as_such(bpe):
    half = [next(i for i in range(256) if bpe.piece(i) == bytes([byte])) for byte in "🙂".encode()[:3]]
    stream = bpe.stream()
    assert [*map(stream.push, half), stream.flush(), stream.flush()] == ["", "", "", "\ufffd", ""]
    assert stream.push(half[0]) == ""  # and the stream goes on


def test_a_stream_that_continues_a_text_keeps_its_space(make_spm):
    tokenizer = make_spm({"▁a": 0.0})
    token = tokenizer.vocab_size - 1
    assert streamed(tokenizer, [token, token]) == "a a"
    assert streamed(tokenizer, [token, token], start=False) == " a a"


def test_control_tokens_that_are_shown_by_name(bpe):
    name, token = next((name, token) for name, token in bpe.special_tokens.items() if token in bpe.control_ids)
    others = [other for other in bpe.control_ids if other != token]
    ids = [*bpe.encode("a", bos=False), token, *others]
    assert streamed(bpe, ids, show=(name, "<|none of ours|>")) == "a" + name
