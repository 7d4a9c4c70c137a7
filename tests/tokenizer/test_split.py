"""The split scanners beside the regular expressions that they stand for, as the tokenizers library runs them."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType
from llamero.tokenizer.patterns import GPT2, LLAMA3, O200K, name_of, pattern_of
from llamero.tokenizer.tokenizer import Tokenizer

EXPRESSIONS = {"llama-bpe": LLAMA3, "llama4": O200K, "gpt-2": GPT2}
PARTS = [
    "'s", "'S", "'ſ", "'t", "'re", "'RE", "'Ve", "'ll", "'lL", "'d", "'", "''s", " ", "  ", "   ", "\t", "\n", "\r\n",
    "\n\n", "\r", "a", "b", "Z", "Aa", "aA", "ǅ", "ʰ", "あ", "日本", "\u0301", "\u0301\u0301", "e\u0301", "É", "ß", "1",
    "12", "1234", "½", "٣", "Ⅷ", "一", ".", "!", "...", "/", "//", "/\n", "!\n/", "_", "-", "🙂", "👍🏽", "\u200d",
    "\xa0", "\u3000", "\u2028", "\x85", "\x1c", "\x00", "\x7f", "\ufeff", "\ufffd", "\U0010ffff", "نص", "ह", "हि",
    "ไทย", "ñ",
]  # fmt: skip


def only_bytes(pre: str) -> Tokenizer:
    """A tokenizer without merges: of its 256 tokens each is a byte."""
    tokens = Strings.of(bytes([byte]) for byte in range(256))
    types = np.full(256, TokenType.NORMAL, np.uint8)
    return Tokenizer(Definition(rules=Rules(kind="bpe", pre=pre), form=Form.RAW, tokens=tokens, types=types))


def library(expression: str) -> Callable[[str], list[str]]:
    from tokenizers import Regex, pre_tokenizers

    cut = pre_tokenizers.Split(Regex(expression), "isolated")
    return lambda text: [piece for piece, _ in cut.pre_tokenize_str(text)]


def company(c: str) -> str:
    """A character among others, such that no two classes of characters are cut the same way by o200k."""
    return f"a{c}b..{c}1{c}{c}Ab "


def test_every_character():
    """The class of every code point, but that of the empty planes only a sample is taken."""
    ours, theirs = only_bytes("llama4").split, library(O200K)
    shapes = {tuple(piece.replace(c, "c") for piece in theirs(company(c))) for c in "Àà日\u0301½\u3000\n!"}
    assert len(shapes) == 8
    codes = [*range(0xD800), *range(0xE000, 0x32400), *range(0x32400, 0x110000, 97), *range(0xE0000, 0xE0200)]
    for first in range(0, len(codes), 1024):
        text = "".join(company(chr(code)) for code in codes[first : first + 1024])
        assert ours(text) == theirs(text), hex(codes[first])


@pytest.mark.parametrize("pre", EXPRESSIONS)
def test_random_texts(pre):
    rng = random.Random(7)
    ours, theirs = only_bytes(pre).split, library(EXPRESSIONS[pre])
    for _ in range(6000):
        text = "".join(rng.choices(PARTS, k=rng.randint(1, 14)))
        assert ours(text) == theirs(text), repr(text)


@pytest.mark.parametrize("pre", EXPRESSIONS)
def test_pieces_are_the_text(pre):
    rng = random.Random(8)
    text = "".join(chr(rng.choice([rng.randrange(0x80), rng.randrange(0xD800)])) for _ in range(5000))
    assert "".join(only_bytes(pre).split(text)) == text


def test_published_expressions_have_names():
    assert [name_of(expression) for expression in EXPRESSIONS.values()] == list(EXPRESSIONS)
    with pytest.raises(TokenizerError, match="no Llama uses"):
        name_of(r"\w+|\s+")
    with pytest.raises(TokenizerError, match="did you mean 'llama-bpe'"):
        pattern_of("lama-bpe")
