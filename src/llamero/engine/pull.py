"""Answers token by token for those who have no worker: whoever wants a token steps, for all who want one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from llamero.engine.request import Run
from llamero.engine.sampling import Choice

if TYPE_CHECKING:
    from llamero.engine.generate import Engine, Progress

_PATIENCE = 1.0  # seconds without a word from whoever steps: it may have been interrupted, and two may try


class Puller:
    """Draws answers from an engine's scheduler. May be used from several threads, one of which steps at a time."""

    def __init__(self, engine: Engine[Any, Any]) -> None:
        self._engine = engine
        self._turn = threading.Condition()
        self._stepping = False

    def generate(self, run: Run, progress: Progress | None, *, whole: bool) -> Generator[Choice]:
        """See `Engine.generate`."""
        scheduler, heard = self._engine.scheduler, _Heard(run, whole)
        started = perf_counter()
        scheduler.submit(run, heard, patient=True)
        try:
            while True:
                choice = self._next(heard, progress)
                spent = perf_counter() - started
                if run.prompt_seconds:
                    run.answer_seconds += spent
                else:
                    run.prompt_seconds = spent
                if choice is None:
                    return
                yield choice
                started = perf_counter()
        finally:
            scheduler.cancel(run)
            scheduler.sweep()

    def _next(self, heard: _Heard, progress: Progress | None) -> Choice | None:
        """The run's next choice; None when it has ended."""
        heard.run.paused = False
        while True:
            while heard.reads:
                done, total = heard.reads.popleft()
                if progress and total > self._engine.chunk:
                    progress(done, total)
            over = heard.over  # looked at first: what was told before the end is there then
            if heard.choices:
                return heard.choices.popleft()
            if over and heard.error:
                raise heard.error
            if over:
                return None
            self._step(heard)

    def _step(self, heard: _Heard) -> None:
        """Step, or wait while others do, until there may be news."""
        with self._turn:
            while self._stepping:
                told = self._turn.wait(_PATIENCE)
                if heard.news:
                    return
                if not told:
                    break
            self._stepping = True
        try:
            self._engine.scheduler.step()
        finally:
            with self._turn:
                self._stepping = False
                self._turn.notify_all()
            self._engine.scheduler.sweep()  # who left meanwhile could not


@dataclass(eq=False)
class _Heard:
    """A listener that keeps what it hears. Unless the answer is wanted whole, the run pauses until more is."""

    run: Run
    whole: bool
    reads: deque[tuple[int, int]] = field(default_factory=deque)
    choices: deque[Choice] = field(default_factory=deque)
    over: bool = False
    error: Exception | None = None

    @property
    def news(self) -> bool:
        return bool(self.reads or self.choices or self.over)

    def read(self, done: int, total: int) -> None:
        found = self.run.cached_tokens
        self.reads.append((done - found, total - found))

    def chose(self, choice: Choice) -> None:
        self.run.paused = not self.whole
        self.choices.append(choice)

    def ended(self, error: Exception | None) -> None:
        self.error, self.over = error, True
