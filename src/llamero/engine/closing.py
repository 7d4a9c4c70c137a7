"""Ends an answer in time: what may be written narrows as its room runs out, so that it can always still become whole.

A way out is found by writing on from a copy of the place, always with what closes most: a closing bracket, a quote
that ends a text, what is forced, and else the byte used least so far, so that no loop of a grammar is gone round for
ever; where that leads nowhere, a few times more with some chance, as the last digit of a multiple of 3 wants it. It
need not be the shortest; in JSON it is nearly so. While the way out is much shorter than the room, nothing happens.
Where it is not, only those of the likeliest tokens stay that leave a way out that fits.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from random import Random
from time import thread_time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llamero.engine.sampling import Logits

if TYPE_CHECKING:
    from llguidance import LLMatcher

_LONGEST = 1024  # tokens of a way out
_SKIPPED = 3  # tokens at the beginning of an earlier way out that one token may have made superfluous
_LIKELIEST = 4  # tokens whose ways out are looked for
_NEAR = 16  # tokens; and at least the longest way out seen so far
_SECONDS = 0.5  # of processor time for all looking of one answer; ambiguous grammars take more with each byte
_CHANCE = 3.0  # uses of a byte by which chance may have it come later
_CHANCES = 4
_STEEP = 16  # tokens by which one token may lengthen the way out, before one looks again

_FIRST_BETWEEN = b"}])\"',:0123456789.-"  # between JSON's marks
_FIRST_INSIDE = b"\"'" + _FIRST_BETWEEN  # inside a text
_LAST = b"{[( \t\r\n"
_ANY = b"x~"  # both may come only inside a text
_CLOSERS = frozenset(b"}])\"'")


class Closing:
    """The single bytes of a vocabulary, and the ways out that they spell."""

    def __init__(self, bytes_: NDArray[np.intp]) -> None:
        """bytes_: the token of each byte (256,), -1 where there is none."""
        self._tokens = bytes_
        self._ranks = (_ranks(_FIRST_BETWEEN), _ranks(_FIRST_INSIDE))

    def way(self, place: LLMatcher, like: list[int] | None, until: float) -> list[int] | None:
        """Tokens that make an answer whole from here, not its end; None where no such way is found.

        like: a way out from a place shortly before; it, or the rest of it, is tried first, which takes far less time.
        until: when to give up, in this thread's time.
        """
        for skipped in range(min(_SKIPPED, len(like)) + 1 if like else 0):
            at, rest = place.deep_copy(), (like or [])[skipped:]
            if at.consume_tokens(rest) and at.is_accepting():
                return rest
        way = self._written(place, until)
        if way is not None:
            return way
        ways = (self._written(place, until, Random(seed)) for seed in range(_CHANCES))
        return min((way for way in ways if way is not None), key=len, default=None)

    def _written(self, place: LLMatcher, until: float, chance: Random | None = None) -> list[int] | None:
        """A way out. Without chance, a closing byte is as good as new after each that closed something."""
        at = place.deep_copy()
        way: list[int] = []
        used: Counter[int] = Counter()
        before: frozenset[int] = frozenset()
        last = -1
        while len(way) < _LONGEST and thread_time() < until:
            if at.is_accepting():
                return way
            step = at.compute_ff_tokens()
            if not step:
                allowed = self._allowed(at)
                if not allowed:
                    return None
                ranks = self._ranks[allowed.issuperset(_ANY)]
                if chance:
                    last = min(allowed, key=lambda byte: (used[byte] + _CHANCE * chance.random(), ranks[byte]))
                else:
                    if last in _CLOSERS and allowed != before:
                        used.clear()
                    before, last = allowed, min(allowed, key=lambda byte: (used[byte], ranks[byte]))
                used[last] += 1
                step = [int(self._tokens[last])]
            if not at.consume_tokens(step):
                return None
            way += step
        return None

    def _allowed(self, at: LLMatcher) -> frozenset[int]:
        bits = np.frombuffer(at.compute_bitmask(), np.uint8)
        tokens = self._tokens
        found = (bits[tokens >> 3] >> (tokens & 7).astype(np.uint8)) & 1
        return frozenset(np.flatnonzero(found.astype(bool) & (tokens >= 0)).tolist())


def _ranks(first: bytes) -> list[int]:
    order = [*dict.fromkeys(first), *(byte for byte in range(256) if byte not in first and byte not in _LAST), *_LAST]
    return [order.index(byte) for byte in range(256)]


class Room:
    """How many tokens an answer may still have, its end not counted, and what that means for the next one.

    hurried: whether the room kept the model from a token that the grammar allows.
    """

    def __init__(self, closing: Closing, left: int) -> None:
        self._closing = closing
        self._left = left
        self._look = left  # tokens left at which to look for the way out again
        self._longest = 0  # way out so far
        self._ways: dict[int, list[int]] = {}  # after each of the tokens that may come next, where they are known
        self._way: list[int] | None = None
        self._last: list[int] | None = None
        self._seconds = _SECONDS
        self.hurried = False

    def narrow(self, place: LLMatcher, logits: Logits, ends: NDArray[np.intp]) -> None:
        """Set the logits (vocab,) of what would leave no way out to minus infinity, in place.

        Where no way out fits any more, or none is found, nothing is done.
        """
        if self._left > self._look:
            return
        started = thread_time()
        self._narrow(place, logits, ends, started + self._seconds)
        self._seconds -= thread_time() - started

    def _narrow(self, place: LLMatcher, logits: Logits, ends: NDArray[np.intp], until: float) -> None:
        way = self._closing.way(place, self._last, until) if self._way is None else self._way
        spare = -1 if way is None else self._left - len(way)
        if way is None or spare < 0:
            self._look = -1
            return
        self._last, self._longest = way, max(self._longest, len(way))
        near = max(_NEAR, self._longest)
        if spare > near:
            self._look = self._left - max(1, (spare - near) // _STEEP)
            return
        self._look = self._left
        self._ways = self._fitting(place, logits, ends, way, until)
        if way:
            self._ways.setdefault(way[0], way[1:])
        kept = [token for token in (*self._ways, *ends) if token < len(logits)]
        values = logits[kept]
        logits.fill(-np.inf)
        logits[kept] = values

    def accept(self, token: int) -> None:
        """One token less."""
        self._left -= 1
        self._way = self._ways.get(token)
        self._ways = {}

    def copy(self) -> Room:
        """The same, to look ahead from."""
        return copy(self)

    def _fitting(
        self, place: LLMatcher, logits: Logits, ends: NDArray[np.intp], way: list[int], until: float
    ) -> dict[int, list[int]]:
        """The likeliest tokens after which a way out still fits, and that way. way: the one from here."""
        found: dict[int, list[int]] = {}
        for token in np.argpartition(logits, -_LIKELIEST - len(ends))[-_LIKELIEST - len(ends) :].tolist():
            if token in ends or logits[token] == -np.inf:
                continue
            ahead = place.deep_copy()
            after = self._closing.way(ahead, way, until) if ahead.consume_token(token) else None
            if after is not None and len(after) <= self._left - 1:
                found[token] = after
            else:
                self.hurried = True
        return found
