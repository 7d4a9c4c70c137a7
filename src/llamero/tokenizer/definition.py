"""All that makes a tokenizer what it is, whichever file said it. Knows nothing of files or of how text is encoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError

Kind = Literal["spm", "bpe"]
"""SentencePiece BPE (Llama 1, 2, Code Llama) or byte-level BPE (Llama 3, 4, GPT-2)."""


class Form(IntEnum):
    """How a file writes a token's bytes as text."""

    SENTENCEPIECE = 0  # U+2581 for a space, <0x0A> for a byte
    BYTE_LEVEL = 1  # GPT-2's 256 printable characters
    RAW = 2  # as they are


class TokenType(IntEnum):
    """What a token is for; numbered as in sentencepiece and in tokenizer.ggml.token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # in text only on request: <|eot_id|>
    USER = 4  # always found in text, before any merging
    UNUSED = 5  # never found in text
    BYTE = 6


@dataclass(frozen=True, eq=False)
class Strings:
    """A column of byte strings inside one buffer: string i is buffer[starts[i]:ends[i]]."""

    buffer: NDArray[np.uint8]
    starts: NDArray[np.uint64]  # (count,)
    ends: NDArray[np.uint64]  # (count,)

    @classmethod
    def of(cls, items: Iterable[bytes]) -> Strings:
        """Join them into a buffer of their own."""
        kept = list(items)
        ends = np.cumsum(np.fromiter(map(len, kept), np.uint64, len(kept)), dtype=np.uint64)
        starts = np.concatenate([np.zeros(1, np.uint64), ends[:-1]]) if kept else ends
        return cls(np.frombuffer(b"".join(kept), np.uint8), starts, ends)

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, index: int) -> bytes:
        """One string (a copy)."""
        return self.buffer[int(self.starts[index]) : int(self.ends[index])].tobytes()


@dataclass(frozen=True, kw_only=True)
class Ids:
    """The ids that a file gives a role. None: it does not say. `stops`: further ids that end a turn or a text."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unk: int | None = None
    eot: int | None = None
    eom: int | None = None
    stops: frozenset[int] = frozenset()

    def check(self, size: int) -> None:
        """Raises TokenizerError for an id outside the vocabulary."""
        named = {"bos": self.bos, "eos": self.eos, "pad": self.pad, "unk": self.unk, "eot": self.eot, "eom": self.eom}
        for name, number in (*named.items(), *(("stop", stop) for stop in self.stops)):
            if number is not None and not 0 <= number < size:
                raise TokenizerError(f"the {name} id {number} is outside this vocabulary of {size} tokens")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a file says beside its tokens.

    `pre` is GGUF's name of the split pattern. `ignore_merges`: a piece that is itself a token is taken without merging;
    None: as `pre` does. `add_space_prefix`, `remove_extra_whitespaces` and `byte_fallback` (a strange character becomes
    its bytes, not the unknown token) are sentencepiece's options (spm only).
    `add_bos`: whether a text begins with the BOS token; None: as the family does.
    """

    kind: Kind
    pre: str = "default"
    ignore_merges: bool | None = None
    add_space_prefix: bool = True
    remove_extra_whitespaces: bool = False
    byte_fallback: bool = True
    ids: Ids = field(default_factory=Ids)
    add_bos: bool | None = None
    chat_template: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Definition:
    """A tokenizer as a file describes it: its rules and its tokens.

    `scores` (spm) or `merges` (bpe) say how neighbours join; without either, what has the lower id joins first. The
    arrays may be views of the file: keep `rules`, not the definition.
    """

    rules: Rules
    form: Form
    tokens: Strings
    types: NDArray[np.uint8]  # (tokens,) of TokenType
    scores: NDArray[np.float32] | None = None  # (tokens,)
    merges: Strings | None = None

    def __post_init__(self) -> None:
        size = len(self.tokens)
        if len(self.types) != size:
            raise TokenizerError(f"{size} tokens have {len(self.types)} types; a file must give each token one")
        if self.scores is not None and len(self.scores) != size:
            raise TokenizerError(f"{size} tokens have {len(self.scores)} scores; a file must give each token one")
        if (self.rules.kind == "spm") != (self.scores is not None):
            raise TokenizerError("SentencePiece tokens need scores, and only they have them")
        self.rules.ids.check(size)
