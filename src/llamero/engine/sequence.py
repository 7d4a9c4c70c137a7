"""The tokens of one conversation, and where the cache keeps them. No arithmetic, no text."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from llamero.engine.tree import Node
from llamero.model.adapter import Adapter


@dataclass(eq=False)
class Sequence:
    """Tokens in order; the cache holds the keys and values of the first `held` of them in `pages`.

    It only grows: one that becomes shorter, or other, is a new sequence. space: sequences of the same share what was
    read (None: this one does not share). adapter: what changes the model for it. The rest is the pool's: the first
    `settled` pages, all full, are shared and written no more; `node` is the last of them in the tree. `tail` is the
    node of the next page, when others may copy what it held at some moment.
    """

    ids: list[int]
    space: Hashable = None
    adapter: Adapter[Any] | None = None
    held: int = 0
    pages: list[int] = field(default_factory=list)
    settled: int = 0
    node: Node | None = None
    tail: Node | None = None

    @property
    def pending(self) -> int:
        """How many tokens the model has not read yet."""
        return len(self.ids) - self.held
