"""One document: a text and where it came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A text, whole and in order. source: the file it was read from."""

    text: str
    source: str
