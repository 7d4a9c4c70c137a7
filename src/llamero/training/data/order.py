"""Orders that are computed, not stored: a shuffle of any size by a key, and a key from a text."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from llamero.training.data.batch import Ids

_ROUNDS = 4  # of the Feistel network; four make a good shuffle


def key_of(text: str) -> NDArray[np.uint64]:
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
