"""The scheduler: many requests, one model. It decides who reads and who writes in each step.

Threads. `step` is called by one thread at a time, the model's worker. `submit`, `cancel` and `standing` may be called
from any thread at any moment; a submission or a cancellation takes effect before the next step. Listeners are called
by the thread that steps, between steps, and must return quickly; a listener may call `cancel`.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.errors import QueueFull

if TYPE_CHECKING:
    from llamero.engine.generate import Engine


class Listener(Protocol):
    """Who waits for an answer."""

    def read(self, done: int, total: int) -> None:
        """So many tokens of the prompt have been read, or found in the cache, of so many."""
        ...

    def chose(self, choice: Choice) -> None:
        """The next token of the answer."""
        ...

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes; `run.finish_reason` says why, and is None after an error or a cancellation."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """working: how many runs read or write at once. waiting: how many more may wait for their turn."""

    working: int = 64
    waiting: int = 256


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is going on, for a glance: runs by what they do; pages of the cache; prompt tokens found, not read."""

    writing: int
    reading: int
    waiting: int
    pages_used: int
    pages_free: int
    found_tokens: int
    read_tokens: int


@dataclass(eq=False)
class _Task:
    """A run, who listens to it, and how many tokens its prompt had when it began to read."""

    run: Run
    listener: Listener
    total: int = 0


class Scheduler:
    """Runs of one engine, served together. See this file's head for what may be called from where."""

    def __init__(self, engine: Engine[Any, Any], limits: Limits | None = None) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        self._door = threading.Lock()  # covers the next two
        self._waiting: deque[_Task] = deque()
        self._cancelled: set[Run] = set()
        self._working: list[_Task] = []
        self._found = self._read = 0

    def submit(self, run: Run, listener: Listener) -> None:
        """Let a run wait for its turn. Raises QueueFull when too many wait."""
        with self._door:
            if len(self._waiting) >= self.limits.waiting:
                raise QueueFull(f"{len(self._waiting)} requests wait already, the most that may; try again later")
            self._waiting.append(_Task(run, listener))

    def cancel(self, run: Run) -> None:
        """End a run before the next step, with `ended(None)`; its finish_reason stays as it is."""
        with self._door:
            self._cancelled.add(run)

    def standing(self) -> Standing:
        """How things stand."""
        reading = sum(task.run.sequence.pending > 1 for task in list(self._working))
        used, free = self.engine.pages
        return Standing(
            writing=len(self._working) - reading,
            reading=reading,
            waiting=len(self._waiting),
            pages_used=used,
            pages_free=free,
            found_tokens=self._found,
            read_tokens=self._read,
        )

    def step(self) -> bool:
        """One forward pass over all that write plus a bounded piece of prompts, then the choices.

        False when there is nothing to do.
        """
        self._take_in()
        shares = self._shares()
        if not shares:
            return False
        logits = iter(self.engine.step([(task.run.sequence, count) for task, count in shares]))
        for task, count in shares:
            if task.total and count:
                task.listener.read(task.total - task.run.sequence.pending, task.total)
            if not task.run.sequence.pending:
                task.total = 0
                self._choose(task, next(logits))
        return True

    def _take_in(self) -> None:
        with self._door:
            cancelled, self._cancelled = self._cancelled, set()
            gone = [task for task in self._waiting if task.run in cancelled]
            for task in gone:
                self._waiting.remove(task)
            fresh: list[_Task] = []
            while self._waiting and len(self._working) + len(fresh) < self.limits.working:
                fresh.append(self._waiting.popleft())
        for task in gone:
            task.listener.ended(None)
        for task in [task for task in self._working if task.run in cancelled]:
            self._end(task, None)
        for task in fresh:
            self.engine.admit(task.run)
            task.total = len(task.run.sequence.ids)
            self._found += task.run.cached_tokens
            self._read += task.run.read_tokens
            self._working.append(task)

    def _shares(self) -> list[tuple[_Task, int]]:
        shares = [(task, 1) for task in self._working if task.run.sequence.pending == 1]
        room = self.engine.chunk
        for task in self._working:
            if room and task.run.sequence.pending > 1:
                count = min(room, task.run.sequence.pending)
                shares.append((task, count))
                room -= count
        return shares

    def _choose(self, task: _Task, logits: Any) -> None:
        run = task.run
        try:
            choice = run.accept(logits)
            if choice is not None:
                task.listener.chose(choice)
        except Exception as error:  # this run alone has failed
            self._end(task, error)
        else:
            if run.finish_reason is not None:
                self._end(task, None)

    def _end(self, task: _Task, error: Exception | None) -> None:
        self._working.remove(task)
        self.engine.retire(task.run)
        task.listener.ended(error)
