"""How much of the prompts a step may read, so that those who write do not wait for long: measured, not guessed."""

from __future__ import annotations

_LEAST = 32  # tokens; below this a step is no shorter for reading less
_TRUST = 0.3  # how far one step moves what is believed


class Pace:
    """Keeps steps near `target` seconds while somebody writes; the cost of a token is learnt from each step."""

    def __init__(self, target: float, most: int) -> None:
        self._target, self._most = target, most
        self._cost: float | None = None  # seconds per token of a step that reads

    def chunk(self, writing: int) -> int:
        """How many prompt tokens the next step may read beside so many that are written."""
        if not writing:
            return self._most
        least = min(_LEAST, self._most)
        if self._cost is None:
            return least
        return max(least, min(self._most, int(self._target / self._cost) - writing))

    def note(self, read: int, written: int, seconds: float) -> None:
        """A step took so long."""
        if read < _LEAST:
            return  # its cost is not that of tokens
        self._cost = believed(self._cost, seconds / (read + written), _TRUST)


def believed(known: float | None, seen: float, trust: float) -> float:
    """What a duration is thought to be, seen once more; None was not known. A hiccup counts as twice what was known."""
    if not known:
        return seen
    return known + trust * (min(seen, 2 * known) - known)
