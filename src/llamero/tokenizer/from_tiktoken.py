"""Meta's `tokenizer.model` of Llama 3 and 4: one token a line, base64 and its rank, best first (tiktoken's format).

The file holds the merged tokens only; split pattern and special tokens belong to the code that came with it, and are
told by the number of ranks.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Final

import numpy as np

from llamero.errors import TokenizerError
from llamero.tokenizer import names
from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType

_LINE: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
_LLAMA3, _LLAMA4 = 128_000, 200_000  # ranks


def is_tiktoken(data: bytes) -> bool:
    """Whether a `tokenizer.model` is of this kind, by its first line; sentencepiece's is no text."""
    return _LINE.match(data[:8192]) is not None


def define_tiktoken(data: bytes, *, pre: str | None = None, special: Sequence[str] | None = None) -> Definition:
    """`pre` and `special` are for ranks other than Meta's: the split pattern's name, and the tokens after the ranks.

    Raises TokenizerError, with the line, for data that do not follow the format, and for a number of ranks that is not
    Llama 3's or 4's where `pre` and `special` are not given.
    """
    tokens = _tokens(data)
    if pre is None or special is None:
        if len(tokens) not in (_LLAMA3, _LLAMA4):
            raise TokenizerError(
                f"these {len(tokens)} ranks are neither Llama 3's {_LLAMA3} nor Llama 4's {_LLAMA4}; the file may be "
                "cut off: fetch it again, or say which split pattern and special tokens belong to it"
            )
        llama3 = len(tokens) == _LLAMA3
        pre = pre or ("llama-bpe" if llama3 else "llama4")
        special = (names.llama3_specials() if llama3 else names.llama4_specials()) if special is None else special
    types = np.full(len(tokens) + len(special), TokenType.NORMAL, np.uint8)
    types[len(tokens) :] = TokenType.CONTROL
    return Definition(
        rules=Rules(kind="bpe", pre=pre),
        form=Form.RAW,
        tokens=Strings.of([*tokens, *(name.encode() for name in special)]),
        types=types,
    )


def _tokens(data: bytes) -> list[bytes]:
    words = data.split()
    if len(words) % 2:
        raise TokenizerError(f"tokenizer.model: line {len(words) // 2 + 1} is not a token and its rank; fetch it again")
    tokens = []
    for line, (word, rank) in enumerate(zip(words[::2], words[1::2], strict=True)):
        if rank != b"%d" % line:
            raise TokenizerError(f"tokenizer.model: line {line + 1} has the rank {rank[:20]!r}; it should be {line}")
        try:
            tokens.append(a2b_base64(word, strict_mode=True))
        except Base64Error as error:
            raise TokenizerError(f"tokenizer.model: line {line + 1} is not base64 ({error})") from None
    return tokens
