"""Ids back to bytes and text, all at once or as they come. Knows of a vocabulary only what a token's bytes are."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Speller:
    """Gives the bytes that each id adds to a text.

    `hidden` ids are control tokens: they add nothing, or their name where `special`. `strip` says that the text begins
    here with a space of the tokenizer's own making, which goes: one, or one of every token before the first word
    (`strip_all`), as sentencepiece does. A space spelt by a token of `bytes_only` is the text's own.
    """

    def __init__(
        self,
        piece: Callable[[int], bytes],
        hidden: frozenset[int],
        bytes_only: frozenset[int],
        *,
        special: bool,
        strip: bool,
        strip_all: bool,
    ) -> None:
        self._piece = piece
        self._hidden = hidden
        self._bytes_only = bytes_only
        self._special = special
        self._strip = strip
        self._strip_all = strip_all

    def spell(self, token: int) -> bytes:
        """The bytes of one more id. Raises TokenizerError for an id that is no token."""
        raw = self._piece(token)
        if token in self._hidden:
            return raw if self._special else b""
        return self._begin(token, raw) if self._strip else raw

    def _begin(self, token: int, raw: bytes) -> bytes:
        rest = raw if token in self._bytes_only else raw.removeprefix(b" ")
        self._strip = not rest and (self._strip_all or not raw)
        return rest


class StreamDecoder:
    """Gives text as soon as it is certain, never half a character.

    What all `push` calls and the last `flush` gave, joined, is what `Tokenizer.decode` makes of the same ids.
    """

    def __init__(self, speller: Speller) -> None:
        self._speller = speller
        self._utf8 = _Utf8("replace")

    def push(self, token: int) -> str:
        """The text that this id completes; empty while a character is still unfinished."""
        return self._utf8.decode(self._speller.spell(token))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, or nothing."""
        return self._utf8.decode(b"", final=True)
