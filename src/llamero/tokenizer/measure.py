"""How economically a tokenizer writes a text. Smaller numbers of tokens make longer texts fit a context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from llamero.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Economy:
    """What was counted: bytes of UTF-8, words between white space, tokens, tokens that are part of a character."""

    bytes: int
    words: int
    tokens: int
    parts: int

    @property
    def bytes_per_token(self) -> float:
        """Also called the compression ratio."""
        return self.bytes / max(self.tokens, 1)

    @property
    def tokens_per_word(self) -> float:
        """Also called fertility; of languages that do not part words it says little."""
        return self.tokens / max(self.words, 1)

    @property
    def single_bytes(self) -> float:
        """Share of tokens that are one byte of a longer character, or a byte that is no character by itself."""
        return self.parts / max(self.tokens, 1)


def economy(tokenizer: Tokenizer, texts: Iterable[str], most: int) -> Economy:
    """Count over texts until `most` characters are reached, without BOS and special tokens."""
    part = np.array([_is_part(tokenizer.piece(token)) for token in range(tokenizer.vocab_size)])
    size = words = tokens = parts = 0
    for text in texts:
        ids = tokenizer.encode_array(text)
        size += len(text.encode())
        words += len(text.split())
        tokens += len(ids)
        parts += int(np.count_nonzero(part[ids]))
        most -= len(text)
        if most <= 0:
            break
    return Economy(size, words, tokens, parts)


def _is_part(piece: bytes) -> bool:
    return len(piece) == 1 and piece[0] >= 0x80
