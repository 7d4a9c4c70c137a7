"""Guesses of how an answer goes on, which the model then checks many at a time: the seam between guessing and checking.

A guess never changes an answer (speculate.py), so a drafter may be anything; it should be quick and often right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llamero.engine.request import Run

_MEMORY = 0.8  # how much of what was seen before still counts after the next look
_DOUBT = 2.0  # guesses' worth of believing what was believed at first


class Drafter(Protocol):
    """Guesses tokens of runs that write. Called by the thread that steps, under the engine's lock."""

    @property
    def seconds(self) -> float:
        """What guessing one more token takes."""
        ...

    def chance(self, run: Run) -> float:
        """How likely its next guess is right; 0 where it has none."""
        ...

    def draft(self, wanted: Sequence[tuple[Run, int]]) -> list[list[int]]:
        """Up to so many tokens for each run, which follow those it has."""
        ...

    def learn(self, run: Run, drafted: int, accepted: int) -> None:
        """So many of the last guesses for a run were looked at, and so many of them were right."""
        ...

    def forget(self, run: Run) -> None:
        """A run has ended."""
        ...


class Luck:
    """How often guesses have been right lately, as a probability; `first` is what to think before any."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._right = self._tried = 0.0

    @property
    def chance(self) -> float:
        return (self._right + _DOUBT * self._first) / (self._tried + _DOUBT)

    def note(self, drafted: int, accepted: int) -> None:
        """Of `drafted` guesses in a row `accepted` were right; those after the first wrong one do not count."""
        tried = min(drafted, accepted + 1)
        self._right = _MEMORY * self._right + accepted
        self._tried = _MEMORY * self._tried + tried

    def fade(self) -> None:
        """Nothing was tried: think a little more as at first, so that it is tried again one day."""
        self._right *= 0.98
        self._tried *= 0.98
