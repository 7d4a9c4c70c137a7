"""The one door to the native encoder: gives it a definition, and turns its complaints into TokenizerError.

Knows nothing of BOS, chats or files.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llamero import _native
from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Definition, Form, Strings
from llamero.tokenizer.patterns import Pattern, pattern_of, takes_whole_pieces


class Encoder:
    """Text to ids by one definition. Never changes once made, so threads may share it; long texts free the GIL.

    Raises TokenizerError, naming the token or merge, when the vocabulary is broken: empty or equal tokens, bytes
    without a token, merges of what is no token.
    """

    def __init__(self, definition: Definition) -> None:
        rules = definition.rules
        spm = rules.kind == "spm"
        pattern = Pattern.NONE if spm else pattern_of(rules.pre)
        whole = takes_whole_pieces(rules.pre) if rules.ignore_merges is None else rules.ignore_merges
        try:
            self._native = _native.Encoder(
                int(definition.form),
                *_column(definition.tokens),
                np.ascontiguousarray(definition.types, np.uint8),
                pattern=int(pattern),
                whole=not spm and whole,
                prefix=spm and rules.add_space_prefix,
                collapse=spm and rules.remove_extra_whitespaces,
                bos=-1 if rules.ids.bos is None else rules.ids.bos,
                unknown=-1 if rules.byte_fallback or rules.ids.unk is None else rules.ids.unk,
            )
            if definition.scores is not None:
                self._native.use_scores(np.ascontiguousarray(definition.scores, np.float32))
            elif definition.merges is not None:
                self._native.use_merges(*_column(definition.merges))
            else:
                self._native.use_ids()
        except ValueError as error:
            raise TokenizerError(f"the vocabulary is broken: {error}") from None
        self._size = len(definition.tokens)

    def __len__(self) -> int:
        return self._size

    def encode(self, text: str, *, special: bool, start: bool, guard: str = "") -> list[int]:
        """The ids of a text, without BOS. `special`: control tokens in it count; `start`: the text begins here.

        `guard` is taken out of the text once the special tokens in it have been found.
        """
        return self._native.encode(utf8(text), special, start, utf8(guard))

    def encode_array(self, text: str, *, special: bool, start: bool) -> NDArray[np.int32]:
        """`encode` without a Python object per id: (tokens,) int32."""
        return self._native.encode_array(utf8(text), special, start, b"")

    def piece(self, token: int) -> bytes:
        """The bytes of a token. Raises TokenizerError for an id that is no token."""
        try:
            return self._native.piece(token)
        except (IndexError, TypeError):
            raise TokenizerError(f"{token!r} is no id of this vocabulary of {self._size} tokens") from None

    def tokens(self, form: Form) -> list[bytes]:
        """Every token as a file of that form writes it; SENTENCEPIECE is left to the caller."""
        raw, ends = self._native.pieces(form is Form.BYTE_LEVEL)
        return [raw[first:end] for first, end in pairwise([0, *ends.tolist()])]

    def merges(self) -> NDArray[np.int32]:
        """What joins with what, best first: (merges, 2) ids of left and right."""
        return self._native.merges()

    def split(self, text: str) -> list[str]:
        """The pieces that the split pattern cuts a text into."""
        return [part.decode() for part in self._native.split(utf8(text))]


def utf8(text: str) -> bytes:
    """The text in UTF-8. Raises TokenizerError, with the place, for half a surrogate pair: no character at all."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is U+{ord(text[error.start]):04X}, half of a surrogate pair, which "
            "UTF-8 cannot hold; decode the text with errors='replace' before"
        ) from None


def _column(strings: Strings) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.uint64]]:
    starts = np.ascontiguousarray(strings.starts, np.uint64)
    return np.ascontiguousarray(strings.buffer), starts, np.ascontiguousarray(strings.ends, np.uint64)
