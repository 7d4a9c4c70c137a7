"""Keeps special tokens written by strangers from becoming control tokens, while a template's own do.

Before rendering, every special token in a stranger's text is broken by a character that occurs nowhere else; in the
rendered text the unbroken ones are then the template's, and the breaking character is taken out again.
Knows strings and plain containers; nothing of templates or vocabularies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A stretch of a rendered chat: a special token of the template, or (`literal`) text with none to be parsed."""

    text: str
    literal: bool


class Shield:
    """Breaks `special` tokens in texts, and splits a rendered text at those left whole.

    `texts` are all texts the rendering can draw on; `mark`, the breaking character, occurs in none of them. It is a
    noncharacter (Unicode 23.7: for internal use, never for interchange) unless the texts use up all of those.
    A special token of one character cannot be broken, and is never split at.
    """

    def __init__(self, special: Iterable[str], texts: Iterable[str]) -> None:
        self._special = sorted({token for token in special if len(token) > 1}, key=len, reverse=True)
        used = frozenset(chain.from_iterable(texts))
        candidates = chain(range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE))
        self.mark = next(chr(code) for code in candidates if chr(code) not in used)
        self._whole = re.compile("|".join(map(re.escape, self._special)) or "(?!)")
        self._first = _one_of(token[0] for token in self._special)
        self._last = _one_of(token[-1] for token in self._special)
        self._longest = max(map(len, self._special), default=0)

    @cached_property
    def _heads(self) -> frozenset[str]:
        return frozenset(token[:size] for token in self._special for size in range(1, len(token)))

    @cached_property
    def _tails(self) -> frozenset[str]:
        return frozenset(token[size:] for token in self._special for size in range(1, len(token)))

    def everywhere(self, value: Any) -> Any:
        """A copy of `value` in which no text can ever be part of a special token, whatever is done with it.

        The mark stands after each character that begins a special token and before each that ends one.
        """
        return _mapped(value, self._break_all)

    def whole(self, value: Any) -> Any:
        """A copy of `value` in which whole special tokens, and beginnings and ends at a text's edge, are broken.

        Disturbs less than `everywhere` a template that looks into the text.
        """
        return _mapped(value, self._break_whole)

    def clean(self, text: str) -> str:
        """The text without marks."""
        return text.replace(self.mark, "")

    def split(self, text: str) -> list[Segment]:
        """A rendered text as segments; their texts joined are the clean text."""
        return list(self._segments(text))

    def _segments(self, text: str) -> Iterator[Segment]:
        start = 0
        for found in self._whole.finditer(text):
            if literal := self.clean(text[start : found.start()]):
                yield Segment(literal, True)
            yield Segment(found.group(), False)
            start = found.end()
        if literal := self.clean(text[start:]):
            yield Segment(literal, True)

    def _break_all(self, text: str) -> str:
        return self._last.sub(rf"{self.mark}\g<0>", self._first.sub(rf"\g<0>{self.mark}", text))

    def _break_whole(self, text: str) -> str:
        while self._whole.search(text):  # tokens may overlap
            text = self._whole.sub(lambda found: found[0][0] + self.mark + found[0][1:], text)
        for place in sorted(self._loose_ends(text), reverse=True):
            text = text[:place] + self.mark + text[place:]
        return text

    def _loose_ends(self, text: str) -> set[int]:
        """Where to break what a neighbouring text might complete; blanks at the edges do not count, templates trim."""
        bare = text.strip()
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        sizes = range(1, min(self._longest, len(bare) + 1))
        heads = {end - size + 1 for size in sizes if bare[-size:] in self._heads}
        return heads | {start + size - 1 for size in sizes if bare[:size] in self._tails}


def _one_of(characters: Iterable[str]) -> re.Pattern[str]:
    found = "".join(sorted(set(characters)))
    return re.compile(f"[{re.escape(found)}]" if found else "(?!)")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a plain value with every text in it, keys included, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a plain value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
