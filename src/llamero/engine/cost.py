"""What steps take, learnt from those that were made: how much of a prompt fits one, what guesses would add to it."""

from __future__ import annotations

import numpy as np

MANY = 32  # prompt tokens of a step from which on every token counts alike; with fewer a step is hardly shorter


class StepCost:
    """What steps of so many rows take. What was not seen is guessed, between known steps and beyond them.

    A step is believed to be quicker at once and slower only by and by, and what is known of larger steps than those
    that are made fades towards these: so a hiccup does not stick, and what did not pay is tried again one day.
    `reading`: how many of the rows belong to prompts.
    """

    _DOWN, _UP, _FADE = 0.5, 0.2, 0.998
    _PER_ROW = 0.04  # of the nearest step: what another row is thought to add, where nothing is known

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}  # rows of steps that read few prompt tokens, or none -> seconds
        self._per_row: float | None = None  # of those that read many

    def note(self, rows: int, reading: int, seconds: float) -> None:
        """A step took so long."""
        if reading >= MANY:
            self._per_row = self._moved(self._per_row, seconds / rows)
            return
        now = self._moved(self._seen.get(rows), seconds)
        for larger in [known for known in self._seen if known > rows]:
            before = self._seen[larger]
            self._seen[larger] = max(self._FADE * before, min(before, now))
        self._seen[rows] = now

    def known(self, reading: int) -> bool:
        """Whether anything is known of such steps."""
        return self._per_row is not None if reading >= MANY else bool(self._seen)

    def rows_within(self, seconds: float) -> int:
        """How many rows a step may have that reads many and should take no longer; 0 while that is unknown."""
        return int(seconds / self._per_row) if self._per_row else 0

    def curve(self, rows: int, more: int, reading: int = 0) -> list[float]:
        """Seconds of steps of `rows` to rows + more rows; something must be known."""
        wanted = np.arange(rows, rows + more + 1)
        if reading >= MANY:
            return list(wanted * (self._per_row or 0.0))
        known = sorted(self._seen)
        # None takes longer than one of more rows that was quicker: what was seen then was a hiccup, or is long ago.
        seconds = np.minimum.accumulate([self._seen[n] for n in reversed(known)])[::-1]
        found = np.interp(wanted, known, seconds)
        beyond = np.where(wanted > known[-1], wanted - known[-1], np.minimum(wanted - known[0], 0))
        return list(found * np.maximum(1 + self._PER_ROW * beyond, 0.5))

    def _moved(self, known: float | None, seen: float) -> float:
        return believed(known, seen, self._DOWN if known is not None and seen < known else self._UP)


def believed(known: float | None, seen: float, trust: float) -> float:
    """What a duration is thought to be, seen once more; None was not known. A hiccup counts as twice what was known."""
    if not known:
        return seen
    return known + trust * (min(seen, 2 * known) - known)
