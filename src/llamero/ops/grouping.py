"""Spans of like length side by side, so that a batched attention takes them in a few calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WASTE = 1.25  # how much attention may cost with the gaps, against without them


@dataclass(frozen=True)
class Groups:
    """Each span has a row of its group, which is as long as the group's longest; what is left of the row is a gap.

    shapes: (rows, length) of each group. places: (tokens,) where each token lies, counted through all rows of all
    groups.
    """

    shapes: tuple[tuple[int, int], ...]
    places: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many tokens all groups have room for."""
        return sum(rows * length for rows, length in self.shapes)

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Groups:
        """Group spans of these lengths, the shortest first; causal attention costs at most a quarter more."""
        shapes: list[tuple[int, int]] = []
        firsts = [0] * len(lengths)  # where each span's row begins
        members: list[int] = []
        exact = at = 0  # the cost of the group without gaps; where it begins
        for span in [*sorted(range(len(lengths)), key=lengths.__getitem__), None]:
            cost = 0 if span is None else lengths[span] ** 2
            if members and (span is None or (len(members) + 1) * cost > _WASTE * (exact + cost)):
                longest = lengths[members[-1]]
                for row, member in enumerate(members):
                    firsts[member] = at + row * longest
                shapes.append((len(members), longest))
                at, exact, members = at + len(members) * longest, 0, []
            if span is not None:
                members.append(span)
                exact += cost
        runs = [np.arange(first, first + length) for first, length in zip(firsts, lengths, strict=True)]
        return cls(tuple(shapes), np.concatenate(runs) if runs else np.empty(0, np.int64))
