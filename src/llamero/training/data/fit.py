"""Best-fit packing: whole documents into rows of one length, so that few are cut and little room is left."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llamero.training.data.batch import Ids


@dataclass(frozen=True)
class Fit:
    """Which pieces lie in which row.

    starts, sizes: (pieces,) where each piece begins in the stream, and how many targets it has (one less than its
    tokens), row after row. firsts: (rows + 1,) the first piece of each row, and the end.
    """

    starts: Ids
    sizes: Ids
    firsts: Ids

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.firsts.size - 1

    def pieces(self, row: int) -> list[tuple[int, int]]:
        """Start and size of each piece of a row."""
        part = slice(self.firsts[row], self.firsts[row + 1])
        return list(zip(self.starts[part].tolist(), self.sizes[part].tolist(), strict=True))

    @classmethod
    def of(cls, starts: Ids, lengths: Ids, context: int) -> Fit:
        """Pack documents that begin at `starts` and have `lengths` tokens, (documents,), into rows of `context`.

        A document of n tokens has n - 1 targets. Whole rows are cut from one that has more than a row of them; the
        rest goes, longest first, to the fullest row that it fits in (best fit decreasing; Ding et al. 2024).
        """
        targets = lengths - 1
        full = targets // context  # rows that a document fills alone
        owner = np.repeat(np.arange(starts.size), full)
        nth = np.arange(owner.size) - np.repeat(np.cumsum(full) - full, full)
        rest = targets % context
        some = np.flatnonzero(rest)
        rows = _placed(rest[some], context) + owner.size
        starts = np.concatenate([starts[owner] + nth * context, starts[some] + full[some] * context])
        sizes = np.concatenate([np.full(owner.size, context, np.int64), rest[some]])
        row_of = np.concatenate([np.arange(owner.size), rows])
        order = np.argsort(row_of, kind="stable")
        count = int(row_of.max(initial=-1)) + 1
        firsts = np.searchsorted(row_of[order], np.arange(count + 1))
        return cls(starts[order], sizes[order], firsts)


def _placed(sizes: Ids, room: int) -> Ids:
    """The row of each piece (pieces,), none larger than `room`.

    Pieces of one size are placed together: a row that takes one stays the fullest that fits until it is too full for
    another, so each row takes as many as it can before the next is looked at.
    """
    rows = np.empty(sizes.size, np.int64)
    order = np.argsort(-sizes, kind="stable")
    ordered = sizes[order]
    edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), sizes.size] if sizes.size else [0]
    left: dict[int, list[NDArray[np.int64]]] = {}  # rows by how much room they have left
    known: list[int] = []  # those amounts, sorted
    opened = 0

    def keep(amount: int, some: NDArray[np.int64]) -> None:
        if amount and some.size:
            if amount not in left:
                insort(known, amount)
            left.setdefault(amount, []).append(some)

    for first, last in pairwise(edges):
        size = int(ordered[first])
        while first < last:
            at = bisect_left(known, size)
            if at == len(known):
                new = -(-(last - first) // (room // size))
                keep(room, np.arange(opened, opened + new))
                opened += new
                continue
            amount = known.pop(at)
            some = np.concatenate(left.pop(amount))
            each = amount // size
            taken = min(last - first, some.size * each)
            whole, odd = divmod(taken, each)
            used = np.repeat(some[: whole + (odd > 0)], each)[:taken]
            rows[order[first : first + taken]] = used
            keep(amount - each * size, some[:whole])
            keep(amount - odd * size, some[whole : whole + 1] if odd else some[:0])
            keep(amount, some[whole + (odd > 0) :])
            first += taken
    return rows
