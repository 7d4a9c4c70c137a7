"""Where ids become words: the one file of the engine that knows text.

Text is handed out as early as it is certain: half a character waits for its other half (the tokenizer's stream), and
text that may still turn out to be the beginning of a stop string waits until it cannot.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from llamero.engine.generate import Engine, Progress
from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.errors import SettingError


class StreamDecoder(Protocol):
    """Turns ids into text as they come; never gives half a character."""

    def push(self, token: int, /) -> str: ...
    def flush(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is certain (it may be empty), and the token that made it so; the last piece of an answer has none."""

    text: str
    choice: Choice | None


class Stops:
    """Finds the first stop string in a stream of text and holds back only what may still become one.

    The string that is complete first ends the text, whichever way the text was cut into pieces; when two are
    complete at the same character, the longer one does. It is not part of the text.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self._strings = tuple(strings)
        if not all(isinstance(string, str) and string for string in self._strings):
            raise SettingError(f"stop strings must be text of at least one character, got {list(self._strings)!r}")
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is now certain; nothing more once a stop string was found."""
        if self.found is not None:
            return ""
        if not self._strings:
            return text
        self._held += text
        matches = [(at + len(s), -len(s), s) for s in self._strings if (at := self._held.find(s)) >= 0]
        if matches:
            end, _, self.found = min(matches)
            return self._take(end - len(self.found))
        return self._take(len(self._held) - self._doubtful())

    def flush(self) -> str:
        """What is still held back, now that no more text comes."""
        return "" if self.found is not None else self._take(len(self._held))

    def _take(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text

    def _doubtful(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(s) - 1 for s in self._strings), default=0)
        for size in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(s.startswith(end) for s in self._strings):
                return size
        return 0


def generate_text(
    engine: Engine[Any, Any],
    run: Run,
    decoder: StreamDecoder,
    stops: Stops,
    progress: Progress | None = None,
    *,
    whole: bool = False,
) -> Generator[Piece]:
    """The answer as pieces of text, up to a stop string. See `Engine.generate`."""
    choices = engine.generate(run, progress, whole=whole)
    try:
        for choice in choices:
            yield Piece(stops.push(decoder.push(choice.id)), choice)
            if stops.found is not None:
                return
        yield Piece(stops.push(decoder.flush()) + stops.flush(), None)
    finally:
        choices.close()
