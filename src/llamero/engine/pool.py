"""The sequences that share one cache: who is at work, who rests with tokens worth keeping, and who must give way.

A finished sequence rests: its tokens stay in the cache until room is needed, so that the next prompt that begins with
the same tokens need not read them again. Room is taken from the one that rested longest, then from a sequence at work
that is not part of this step; that one reads its tokens again when its turn comes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from llamero.engine.sequence import Sequence, shared
from llamero.errors import ContextOverflow
from llamero.model.adapter import Adapter
from llamero.model.cache import Cache

_WORTHWHILE = 2  # a common BOS alone is no reason to take over a sequence


class Pool:
    """Hands out sequences and their pages. Not thread-safe by itself: the engine holds the lock."""

    def __init__(self, cache: Cache[Any, Any]) -> None:
        self._cache = cache
        self._working: list[Sequence] = []
        self._resting: list[Sequence] = []  # longest rest first

    def admit(self, ids: list[int], adapter: Adapter[Any] | None = None) -> Sequence:
        """A sequence of these ids: the resting one with the longest common beginning, rewound, or a fresh one.

        Only one that was read with the same adapter will do.
        """
        best, most = None, _WORTHWHILE - 1
        for sequence in reversed(self._resting):
            common = min(shared(sequence.ids, ids), sequence.held) if sequence.adapter is adapter else 0
            if common > most:
                best, most = sequence, common
        if best is None:
            best = Sequence(list(ids), adapter=adapter)
        else:
            self._resting.remove(best)
            best.rewrite(ids)
            self._cache.release(best.pages, keep=best.held)
        self._working.append(best)
        return best

    def retire(self, sequence: Sequence) -> None:
        """Let a sequence rest."""
        if sequence in self._working:
            self._working.remove(sequence)
            self._resting.append(sequence)

    def reserve(self, sequence: Sequence, tokens: int, step: Collection[Sequence]) -> None:
        """Give the sequence pages for `tokens` tokens, taken from others, not of this step, if need be.

        Raises ContextOverflow when even that is not enough.
        """
        while True:
            try:
                return self._cache.extend(sequence.pages, tokens)
            except ContextOverflow:
                if not self._evict(step):
                    raise

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence and free its pages."""
        for group in (self._working, self._resting):
            if sequence in group:
                group.remove(sequence)
        self._free(sequence)

    def _evict(self, step: Collection[Sequence]) -> bool:
        if self._resting:
            self._free(self._resting.pop(0))
            return True
        others = [sequence for sequence in self._working if sequence.pages and sequence not in step]
        if others:
            self._free(others[-1])
        return bool(others)

    def _free(self, sequence: Sequence) -> None:
        self._cache.release(sequence.pages)
        sequence.held = 0
