"""Which characters tokens are of: whole ones, halves of one, and the space that stands before a text."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from llamero.tokenizer.places import places
from llamero.tokenizer.tokenizer import Tokenizer


def test_characters_in_pieces() -> None:
    assert places("aé🙂", [b"a", b"\xc3", b"\xa9\xf0\x9f", b"\x99\x82"]) == [(0, 1), (1, 2), (1, 3), (2, 3)]


def test_a_space_before_the_text_is_nowhere() -> None:
    assert places("Hi you", [b" Hi", b" you"]) == [(0, 2), (2, 6)]
    assert places("Hi", [b" ", b"Hi"]) == [(0, 0), (0, 2)]


def test_another_spelling_is_not_known_within() -> None:
    assert places("a  b", [b"a", b" b"]) == [(0, 4), (0, 4)]


@pytest.mark.parametrize("name", ["llama3_tokenizer.model", "llama2_tokenizer.json"])
def test_real_vocabularies(from_shelf: Callable[[str], Tokenizer], name: str) -> None:
    tokenizer = from_shelf(name)
    text = "Grüße 🙂👍🏽, it's 日本語\n\n  done"
    ids = tokenizer.encode(text, bos=False)
    found = places(text, [tokenizer.piece(token) for token in ids])
    assert (found[0][0], found[-1][1]) == (0, len(text))
    assert all(before[1] - 1 <= after[0] <= before[1] for before, after in pairwise(found))
