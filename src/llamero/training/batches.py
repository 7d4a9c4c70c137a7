"""Tokens into batches. The order is a pure function of (data, seed, step): a loader has no state but the step.

Knows neither text nor models: ids come in, windows of ids go out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.training.batch import Batch, Ids

_ROUNDS = 4  # of the Feistel network; four make a good shuffle


@dataclass(frozen=True)
class Tokens:
    """A flat run of token ids, one document after another, and how much each of them counts in the loss.

    ids: (n,) of any unsigned integer type, often mapped from a file. counts: (n,) bool, or None where all count.
    fingerprint: names the content; two equal fingerprints give the same batches.
    """

    ids: NDArray[np.unsignedinteger]
    counts: NDArray[np.bool_] | None
    fingerprint: str

    @classmethod
    def of(cls, ids: NDArray[np.unsignedinteger], counts: NDArray[np.bool_] | None = None) -> Tokens:
        """Tokens in memory; the fingerprint is a hash of their content."""
        if ids.ndim != 1 or ids.dtype.kind != "u":
            raise SettingError(f"tokens must be a flat array of unsigned integers, got {ids.dtype} {ids.shape}")
        if counts is not None and counts.shape != ids.shape:
            raise SettingError(f"there are {ids.size} tokens but {counts.size} marks of which count")
        digest = hashlib.sha256(f"{ids.dtype.str}:{ids.size}:".encode())
        for array in (ids,) if counts is None else (ids, counts):
            digest.update(np.ascontiguousarray(array).data)
        return cls(ids, counts, digest.hexdigest())

    @classmethod
    def open(cls, path: Path) -> Tokens:
        """Tokens of a `.npy` file, mapped and not read into memory.

        Raises ModelNotFound where there is no file, FormatError where it is not a flat array of unsigned integers.
        """
        try:
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise ModelNotFound(f"{path}: no such file of tokens") from error
        except (ValueError, EOFError, OSError) as error:
            raise FormatError(f"{path}: not a .npy file of tokens: {error}") from error
        if ids.ndim != 1 or ids.dtype.kind != "u":
            raise FormatError(f"{path}: holds {ids.dtype} of shape {ids.shape}, not a flat array of unsigned integers")
        return cls.of(ids)


class Batches:
    """A `Source` of windows of context + 1 tokens, every one once per epoch, in an order shuffled anew each epoch.

    Windows overlap by the one token that is the last target of one and the first input of the next. Each epoch starts
    them at another offset, so that their borders differ.
    """

    def __init__(self, tokens: Tokens, *, context: int, sequences: int, seed: int = 0) -> None:
        if context < 1 or sequences < 1:
            raise SettingError(f"context ({context}) and sequences ({sequences}) must be at least 1")
        self.windows = (tokens.ids.size - context) // context
        if self.windows < 1:
            raise SettingError(
                f"{tokens.ids.size} tokens are too few for windows of {context}: give at least {2 * context}"
            )
        self.tokens, self.context, self.sequences, self.seed = tokens, context, sequences, seed

    @property
    def tokens_per_step(self) -> int:
        return self.context * self.sequences

    def at(self, step: int) -> Batch:
        """The batch of a step, whatever was asked before."""
        starts = self.starts(step)
        places = starts[:, None] + np.arange(self.context + 1)  # (sequences, context + 1)
        ids = self.tokens.ids[places].astype(np.int64)
        marks = self.tokens.counts
        return Batch.of(ids, None if marks is None else marks[places[:, 1:]].astype(np.float32))

    @property
    def origin(self) -> dict[str, Any]:
        """What decides every batch."""
        sizes = {"context": self.context, "sequences": self.sequences}
        return {"data": self.tokens.fingerprint, "seed": self.seed, **sizes}

    def documents(self, step: int) -> list[str]:
        """Where the windows of a step lie in the tokens."""
        return [f"tokens {start} to {start + self.context}" for start in self.starts(step).tolist()]

    def starts(self, step: int) -> Ids:
        """Where the windows of a step begin in the tokens (sequences,)."""
        number = np.arange(step * self.sequences, (step + 1) * self.sequences)
        starts = np.empty(self.sequences, np.int64)
        for epoch in np.unique(number // self.windows):
            chosen = number // self.windows == epoch
            key = _key(f"{self.tokens.fingerprint}:{self.seed}:{epoch}")
            shuffled = shuffle(number[chosen] % self.windows, self.windows, key)
            starts[chosen] = shuffled * self.context + int(key[-1]) % self.context
        return starts


def _key(text: str) -> NDArray[np.uint64]:
    """One number per round and one more, all from the text alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8 * (_ROUNDS + 1)).digest()
    return np.frombuffer(digest, dtype="<u8")


def shuffle(numbers: Ids, size: int, key: NDArray[np.uint64]) -> Ids:
    """A permutation of 0..size-1 chosen by `key`, applied to `numbers`, without storing it.

    A Feistel network (Luby and Rackoff 1988) permutes the next even power of two; what falls outside is walked on
    until it falls inside (Black and Rogaway 2002).
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    result = numbers.astype(np.uint64)
    outside = np.ones(result.shape, np.bool_)
    while outside.any():
        left, right = result[outside] >> shift, result[outside] & mask
        for word in key[:_ROUNDS]:
            left, right = right, left ^ (_mix(right + word) & mask)
        result[outside] = left << shift | right
        outside = result >= size
    return result.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A well-stirred function of 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
