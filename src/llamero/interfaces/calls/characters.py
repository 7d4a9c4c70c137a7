"""Characters as they come, for rules that wait for more of them, look ahead, and go back when they were wrong."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Rule: TypeAlias = Generator[None, None, T]
"""A rule of a syntax: it yields where it needs a character that has not come yet."""


_MOST_DOUBTFUL = 100_000  # characters that are read twice at most, whatever an answer holds


class Wrong(Exception):
    """What was read is not what the rule is for."""


class Characters:
    """The characters of a stream. "" stands for its end.

    Rules that may be wrong read so much of it in all, and are wrong after that: otherwise each of n beginnings that
    never end would be read up to the end of the stream.
    """

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._kept: int | None = None  # where a rule that may be wrong began
        self._doubtful = _MOST_DOUBTFUL  # characters that such rules may still read
        self._over = False
        self.exhausted = False  # whether a rule has asked for more than there was

    def push(self, text: str) -> None:
        """More of the stream."""
        start = self._at if self._kept is None else self._kept
        if start:
            self._text, self._at = self._text[start:], self._at - start
            self._kept = None if self._kept is None else 0
        self._text += text

    def close(self) -> None:
        """No more comes."""
        self._over = True

    def peek(self, ahead: int = 0) -> Rule[str]:
        """The next character, or one further ahead; it stays."""
        if self._kept is not None and self._at - self._kept > self._doubtful:
            raise Wrong
        while self._at + ahead >= len(self._text):
            if self._over:
                self.exhausted = self.exhausted or not ahead
                return ""
            yield
        return self._text[self._at + ahead]

    def take(self) -> Rule[str]:
        """The next character."""
        character = yield from self.peek()
        self._at += len(character)
        return character

    def expect(self, one_of: str) -> Rule[str]:
        """The next character, which must be one of these."""
        character = yield from self.peek()
        if not character or character not in one_of:
            raise Wrong
        self._at += 1
        return character

    def literal(self, text: str) -> Rule[bool]:
        """Whether exactly this text comes next; it is taken if so, and nothing is if not."""
        for ahead, wanted in enumerate(text):
            if (yield from self.peek(ahead)) != wanted:
                return False
        self._at += len(text)
        return True

    def blanks(self) -> Rule[str]:
        """The white space that comes next, taken."""
        found = ""
        while (character := (yield from self.peek())) and character.isspace():
            self._at += 1
            found += character
        return found

    def keep(self) -> None:
        """What is taken from here on can be given back."""
        self._kept = self._at

    def commit(self) -> None:
        """What was taken was right."""
        self._kept = None

    def back(self) -> None:
        """Give back what was taken since `keep`."""
        if self._kept is not None:
            self._doubtful -= self._at - self._kept
            self._at, self._kept, self.exhausted = self._kept, None, False
