"""Who is at work, who waits, and who takes part in the next step: with how many tokens, in which pages.

A step holds the next token of every run that writes, and a piece of the prompts, so large that the step stays short.
Runs are served in the order in which they were let in; who is let in next is fair between owners (`line.py`). A run
whose next tokens another is just reading waits for the page instead of reading it too. When the cache is full, the
youngest give way: they keep their answer and read their tokens again later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from llamero.engine.cost import MANY, StepCost
from llamero.engine.line import Line
from llamero.engine.task import Share, Task
from llamero.engine.tree import shared
from llamero.errors import ContextOverflow

if TYPE_CHECKING:
    from llamero.engine.generate import Engine

_WORTH_WAITING = 16  # tokens that another reads just now


class Roster:
    """The tasks of one engine. The engine's lock is held.

    most: how many may be at work, those aside that are paused. step_seconds: what a step should take at most while
    somebody writes.
    """

    def __init__(self, engine: Engine[Any, Any], cost: StepCost, *, most: int, step_seconds: float) -> None:
        self._engine, self._pool, self._cost = engine, engine.pool, cost
        self._most, self._step_seconds = most, step_seconds
        self.line: Line[Task] = Line()
        self.working: list[Task] = []  # in the order in which they were let in

    @property
    def active(self) -> list[Task]:
        """Those at work whose next token is wanted."""
        return [task for task in self.working if not task.run.paused]

    def plan(self) -> list[Share]:
        """Who takes part in the next step; their pages are reserved."""
        shares: list[Share] = []
        for task in self.working:
            if task.writes and self._room(task, 1, shares):
                shares.append((task, 1))
        left, reading = self._piece(len(shares)), list[Task]()
        for task in self._readers():
            sequence = task.run.sequence
            if not sequence.pending:
                self._pool.release(sequence)  # a step was broken off between reading and choosing
            self._pool.follow(sequence)
            if self._in_the_making(task, reading):
                continue
            self._pool.borrow(sequence)
            count = min(left, sequence.pending)
            if not self._room(task, count, shares):
                break
            shares.append((task, count))
            reading.append(task)
            left -= count
            if not left:
                break
        return shares

    def _piece(self, writing: int) -> int:
        """How many prompt tokens the next step may read beside so many that are written."""
        most = self._engine.chunk
        return min(most, max(MANY, self._cost.rows_within(self._step_seconds) - writing)) if writing else most

    def _readers(self) -> Iterator[Task]:
        """Those whose prompts are being read, then those who are let in."""
        yield from [task for task in self.working if task.reads]
        while self.line and len(self.active) < self._most:
            owner = self.line.head(Counter(task.run.request.owner for task in self.working))
            if not self._fits(self.line.first(owner)):
                return
            task = self.line.pop(owner)
            task.run.began = perf_counter()
            self.working.append(task)
            yield task

    def _fits(self, task: Task) -> bool:
        """Whether a run can be let in without taking room that those at work will soon need."""
        pool, sequence = self._pool, task.run.sequence
        pool.follow(sequence)
        size = pool.cache.page
        missing = len(sequence.ids) // size + 1 - len(sequence.pages)
        active = [other.run for other in self.active]
        growing = sum(run.most_tokens > len(run.sequence.pages) * size for run in active)  # each by a page at a time
        if not active or missing + growing <= pool.available:
            return True
        pool.drop(sequence)
        return False

    def _in_the_making(self, task: Task, reading: Sequence[Task]) -> bool:
        """Whether one of those who read in this step makes the page that the task needs next."""
        sequence, size = task.run.sequence, self._pool.cache.page
        start = sequence.settled * size
        wanted = sequence.ids[sequence.held : min(start + size, len(sequence.ids) - 1)]
        if len(wanted) < _WORTH_WAITING:
            return False
        for other in (other.run.sequence for other in reading):
            if other.node is sequence.node and other.space == sequence.space:
                same = other.ids[start : sequence.held] == sequence.ids[start : sequence.held]
                if same and shared(other.ids[sequence.held : start + size], wanted) >= _WORTH_WAITING:
                    return True
        return False

    def _room(self, task: Task, count: int, shares: Sequence[Share]) -> bool:
        """Reserve pages for so many more tokens, if they are to be had.

        Paused runs give way to all, the younger to those who write, and everybody to the first of a step.
        """
        pool, sequence = self._pool, task.run.sequence
        tokens = sequence.held + count
        if tokens <= len(sequence.pages) * pool.cache.page:
            return True
        taking_part = {other for other, _ in shares}
        place = self.working.index(task)
        able = [
            other
            for index, other in enumerate(self.working)
            if other is not task and other not in taking_part
            if other.run.paused or not shares or (task.writes and index > place)
        ]
        able.sort(key=lambda other: other.run.paused)
        try:
            pool.reserve(sequence, tokens, (other.run.sequence for other in reversed(able)))
        except ContextOverflow:
            return False
        return True
