"""The native merge loops beside their slow twins, on random vocabularies, and on texts made to be slow."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType
from llamero.tokenizer.slow import by_id, by_pair, by_score, encode_bpe, encode_spm
from llamero.tokenizer.tokenizer import Tokenizer


def random_merges(rng: random.Random, count: int, letters: bytes) -> list[tuple[bytes, bytes]]:
    """Merges of tokens that are there already, each new token once."""
    tokens = [bytes([letter]) for letter in letters]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < count:
        pair = rng.choice(tokens), rng.choice(tokens)
        joined = pair[0] + pair[1]
        if joined not in tokens and len(joined) <= 12:
            tokens.append(joined)
            merges.append(pair)
    return merges


def byte_level(raw: bytes) -> bytes:
    assert all(33 <= byte <= 126 for byte in raw)
    return raw


def bpe_by_merges(merges: list[tuple[bytes, bytes]], *, whole: bool) -> Tokenizer:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [char.encode() for char in alphabet] + [byte_level(a + b) for a, b in merges]
    definition = Definition(
        rules=Rules(kind="bpe", pre="llama-bpe", ignore_merges=whole),
        form=Form.BYTE_LEVEL,
        tokens=Strings.of(texts),
        types=np.full(len(texts), TokenType.NORMAL, np.uint8),
        merges=Strings.of(byte_level(a) + b" " + byte_level(b) for a, b in merges),
    )
    return Tokenizer(definition)


def bpe_by_ids(tokens: list[bytes]) -> Tokenizer:
    definition = Definition(
        rules=Rules(kind="bpe", pre="llama-bpe", ignore_merges=False),
        form=Form.RAW,
        tokens=Strings.of(tokens),
        types=np.full(len(tokens), TokenType.NORMAL, np.uint8),
    )
    return Tokenizer(definition)


def words(rng: random.Random, letters: str, longest: int, count: int) -> list[str]:
    return ["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [True, False])
def test_bpe_by_merges(seed, whole):
    rng = random.Random(seed)
    merges = random_merges(rng, 60, b"abc")
    tokenizer = bpe_by_merges(merges, whole=whole)
    ids = {tokenizer.piece(i): i for i in range(tokenizer.vocab_size)}
    for word in words(rng, "abc", 90, 60):  # both sides of where the heap takes over
        expected = encode_bpe(word.encode(), ids, by_pair(merges), whole=whole)
        assert tokenizer.encode(word, bos=False) == expected, word


@pytest.mark.parametrize("seed", range(12))
def test_bpe_by_ids(seed):
    rng = random.Random(seed)
    made = {a + b for a, b in random_merges(rng, 60, b"abc")}
    tokens = [bytes([byte]) for byte in range(256)] + rng.sample(sorted(made), len(made))
    tokenizer = bpe_by_ids(tokens)
    ids = {token: i for i, token in enumerate(tokens)}
    for word in words(rng, "abc", 90, 60):
        assert tokenizer.encode(word, bos=False) == encode_bpe(word.encode(), ids, by_id(ids), whole=False), word


@pytest.mark.parametrize("seed", range(12))
def test_spm(make_spm, seed):
    rng = random.Random(seed)
    letters = "abé日 "
    made = {"".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(60)} | {"a", "b", " "}
    scores = {piece: float(-rng.randint(0, 30)) for piece in sorted(made)}  # equal scores too
    tokenizer = make_spm({piece.replace(" ", "▁"): score for piece, score in scores.items()})
    ids = {tokenizer.piece(i): i for i in range(259, tokenizer.vocab_size)}
    rank = by_score({piece.encode(): score for piece, score in scores.items()})
    for text in words(rng, letters + "z", 120, 60):
        expected = encode_spm(" " + text, ids, rank, list(range(3, 259)))
        assert tokenizer.encode(text, bos=False) == expected, text


def test_long_text_is_the_sum_of_its_words(bpe):
    """Long texts remember words that they met before; the ids must not tell."""
    rng = random.Random(5)
    text = "".join(" " + word for word in rng.choices(words(rng, "thequickbrown日é", 9, 400), k=9000))
    ids = [token for piece in bpe.split(text) for token in bpe.encode(piece, bos=False)]
    assert bpe.encode(text, bos=False) == ids == bpe.encode_array(text).tolist()
    assert bpe.decode(ids) == text


@pytest.mark.parametrize("unit", ["a", " ", "\n", "ab", "日", "!", "1", "\u0301", "A\u3042", " \n", "<|"])
def test_a_megabyte_of_one_thing_takes_no_time(bpe, make_spm, unit):
    spm = make_spm({"a": 0, "aa": -1, "aaaa": -2, "▁": -3, "▁▁": -4, "ab": -5, "abab": -6, "▁a": -7})
    text = unit * (1_000_000 // len(unit.encode()))
    for tokenizer in (bpe, spm):
        start = time.process_time()
        ids = tokenizer.encode(text, special=True)
        assert time.process_time() - start < 5
        assert tokenizer.decode(ids) == text


def test_threads_share_a_tokenizer(bpe):
    from concurrent.futures import ThreadPoolExecutor

    text = "The quick brown fox can't jump. " * 500
    expected = bpe.encode(text)
    with ThreadPoolExecutor(4) as pool:
        assert all(ids == expected for ids in pool.map(bpe.encode, [text] * 16))
