"""Guessing by looking up: what followed the last few tokens when they stood in the text before.

Costs nothing and is right where answers repeat: quotations of the prompt, code, lists, JSON (Saxena 2023, "prompt
lookup decoding").
"""

from __future__ import annotations

from collections.abc import Sequence

from llamero.engine.drafter import Luck
from llamero.engine.request import Run

_FIRST = {4: 0.7, 3: 0.5, 2: 0.25}  # how far a match of so many tokens is trusted at first, the longest first
_AT_ONCE = 20_000  # tokens of a long prompt to take in before one step


class NgramDrafter:
    """Looks up in each run's own tokens, prompt and answer."""

    seconds = 0.0

    def __init__(self) -> None:
        self._books: dict[Run, _Book] = {}

    def chance(self, run: Run) -> float:
        return self._book(run).chance()

    def draft(self, wanted: Sequence[tuple[Run, int]]) -> list[list[int]]:
        return [self._book(run).draft(count) for run, count in wanted]

    def learn(self, run: Run, drafted: int, accepted: int) -> None:
        self._books[run].learn(drafted, accepted)

    def forget(self, run: Run) -> None:
        self._books.pop(run, None)

    def _book(self, run: Run) -> _Book:
        book = self._books.get(run)
        ids = run.sequence.ids
        if book is None or book.ids is not ids:  # older tokens were dropped
            luck = book.luck if book else None
            book = self._books[run] = _Book(ids, luck)
        return book


class _Book:
    """Where each few neighbouring tokens stood last, by what followed them."""

    def __init__(self, ids: list[int], luck: dict[int, Luck] | None) -> None:
        self.ids = ids
        self.luck = luck or {size: Luck(first) for size, first in _FIRST.items()}
        self._after: dict[tuple[int, ...], int] = {}
        self._read = 1  # tokens looked at; each was the end of some n-grams whose follower is known
        self._size = self._place = 0  # the match of the last look

    def chance(self) -> float:
        """How likely the token is that followed the longest match; 0 without one."""
        self._take_in()
        for size in _FIRST:
            place = self._after.get(tuple(self.ids[-size:]))
            if place is not None:
                self._size, self._place = size, place
                return self.luck[size].chance
        self._size = 0
        return 0.0

    def draft(self, count: int) -> list[int]:
        """What followed then, and where that reaches the end, what it has become: a loop goes on."""
        if not self._size:
            return []
        tokens: list[int] = []
        for place in range(self._place, self._place + count):
            tokens.append(self.ids[place] if place < len(self.ids) else tokens[place - len(self.ids)])
        return tokens

    def learn(self, drafted: int, accepted: int) -> None:
        if self._size and drafted:
            self.luck[self._size].note(drafted, accepted)
        elif self._size:
            self.luck[self._size].fade()

    def _take_in(self) -> None:
        ids = self.ids
        end = min(len(ids), self._read + _AT_ONCE)
        for place in range(self._read, end):
            for size in _FIRST:
                if place >= size:
                    self._after[tuple(ids[place - size : place])] = place
        self._read = end
