"""Whose turn it is: which part of a mixture gives the n-th row, and the how many-th of its own that is.

After any number of rows each part has had its share to within less than one row (Tijdeman 1980; as a schedule with
deadlines Steiner and Yeomans 1993). The order repeats after a period, so any row is found at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from llamero.training.data.batch import Ids
from llamero.training.data.order import key_of, shuffle


class Turns:
    """The turns of parts that have `rows` rows each in a period of all of them together.

    seed: decides who comes first where that is open.
    """

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self.rows = np.array(rows, np.int64)
        self.period = int(self.rows.sum())
        first = shuffle(np.arange(len(rows)), len(rows), key_of(f"turns:{seed}")).tolist()
        self._parts = _period(rows, first)
        self._before = np.empty(self.period, np.int64)  # turns of the same part before, within the period
        for part, count in enumerate(rows):
            self._before[self._parts == part] = np.arange(count)

    def at(self, numbers: Ids) -> tuple[Ids, Ids]:
        """For each row of these numbers its part, and how many rows of that part came before it."""
        periods, places = numbers // self.period, numbers % self.period
        parts = self._parts[places]
        return parts, periods * self.rows[parts] + self._before[places]


def _period(rows: Sequence[int], first: Sequence[int]) -> NDArray[np.int64]:
    """Whose turn it is in each place of a period.

    The i-th turn of a part (from 0) may not come before place floor(i / share) nor after ceil((i + 1) / share) - 1,
    where its share is its rows / the period: then it is never a whole row ahead or behind. Whoever has to be done
    soonest goes first, which meets every deadline where that is possible, and it always is.
    """
    period = sum(rows)
    part = np.repeat(np.arange(len(rows)), rows)
    count = np.repeat(np.array(rows, np.int64), rows)
    turn = np.arange(period) - np.repeat(np.cumsum(rows) - rows, rows)
    release, deadline = turn * period // count, -(-(turn + 1) * period // count) - 1
    order = np.argsort(release, kind="stable")
    jobs = zip(*(each[order].tolist() for each in (release, deadline, part)), strict=True)
    job = next(jobs, None)
    turns = np.empty(period, np.int64)
    waiting: list[tuple[int, int, int]] = []
    for place in range(period):
        while job is not None and job[0] == place:
            heappush(waiting, (job[1], first[job[2]], job[2]))
            job = next(jobs, None)
        soonest, _, turns[place] = heappop(waiting)
        assert soonest >= place
    return turns
