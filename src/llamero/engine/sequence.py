"""The tokens of one conversation, and where the cache keeps them. No arithmetic, no text."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from llamero.model.adapter import Adapter


@dataclass(eq=False)
class Sequence:
    """Tokens in order; the cache holds the keys and values of the first `held` of them in `pages`.

    adapter: what changes the model for it, so that its keys and values are no use to others.
    """

    ids: list[int]
    held: int = 0
    pages: list[int] = field(default_factory=list)
    adapter: Adapter[Any] | None = None

    @property
    def pending(self) -> int:
        """How many tokens the model has not read yet."""
        return len(self.ids) - self.held

    def rewrite(self, ids: Ids[int]) -> None:
        """Become `ids`; what is held of a common beginning stays so, save the last token, whose logits are wanted."""
        self.held = max(0, min(self.held, shared(self.ids, ids), len(ids) - 1))
        self.ids = list(ids)


def shared(a: Ids[int], b: Ids[int]) -> int:
    """How many tokens two lists have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
