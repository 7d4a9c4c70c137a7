"""The scheduler: many requests, one model, one step after another.

Who takes part in a step is the roster's (`roster.py`); here they come and go, the step is made, and each hears what it
gave. Guesses that were read along are looked at one by one, so that nobody gets more than they want.

Threads. `step` is called by one thread at a time, the model's worker. `submit`, `cancel`, `sweep` and `standing` may be
called from any thread at any moment; a submission or a cancellation takes effect before the next step. Those who have
no worker use `Engine.generate` (`pull.py`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from llamero.engine.choosing import Choosers, Outcome
from llamero.engine.cost import MANY, StepCost
from llamero.engine.request import Run
from llamero.engine.roster import Roster
from llamero.engine.sampling import Logits
from llamero.engine.sequence import Sequence
from llamero.engine.speculate import Trial
from llamero.engine.task import Listener, Share, Task
from llamero.errors import LlameroError, QueueFull, SettingError

if TYPE_CHECKING:
    from llamero.engine.generate import Engine


@dataclass(frozen=True, kw_only=True)
class Limits:
    """working: how many runs read or write at once. waiting: how many more may wait for their turn.

    step_seconds: how long a step should take at most while somebody writes; prompts are read in pieces that fit.
    shared: whether what one owner read may be used for another; who asks can tell by the time it takes.
    """

    working: int = 64
    waiting: int = 256
    step_seconds: float = 0.15
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is going on, for a glance: runs by what they do; pages of the cache that runs hold, that are kept for those
    who come, and that are free; prompt tokens that were found there, and that were read, since the start.
    """

    writing: int
    reading: int
    waiting: int
    pages_used: int
    pages_kept: int
    pages_free: int
    found_tokens: int
    read_tokens: int


class Scheduler:
    """Runs of one engine, served together. See this file's head for what may be called from where.

    An engine has one scheduler: making another takes the place of the one before, which must have nothing to do.
    """

    def __init__(self, engine: Engine[Any, Any], limits: Limits | None = None) -> None:
        self.engine = engine
        self.limits = limits or Limits()
        if hasattr(engine, "scheduler") and engine.scheduler.busy:
            raise SettingError("the engine's scheduler is at work; replace it before anything is asked of it")
        engine.scheduler = self
        self.cost = StepCost()
        self._choosers = Choosers(getattr(engine.ops, "threads", 1))
        self._door = threading.Lock()  # one submits at a time
        self._arrived: deque[Task] = deque()
        self._cancelled: deque[Run] = deque()
        # The rest is touched under the engine's lock only.
        self._roster = Roster(engine, self.cost, most=self.limits.working, step_seconds=self.limits.step_seconds)
        self._found = self._read = 0

    @property
    def busy(self) -> bool:
        """Whether anybody is served or waits."""
        return bool(self._roster.working or self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._roster.line) + len(self._arrived)

    def submit(self, run: Run, listener: Listener, *, patient: bool = False) -> None:
        """Let a run wait for its turn. Raises QueueFull when too many wait, unless it is patient."""
        task = Task(run, listener, len(run.sequence.ids))
        self._place(run)
        with self._door:
            if self._waiting >= self.limits.waiting and not patient:
                raise QueueFull(f"{self._waiting} requests wait already, the most that may; try again later")
            self._arrived.append(task)

    def found(self, run: Run) -> int:
        """How many of a run's tokens are in the cache, and would not be read if it were submitted now."""
        self._place(run)
        with self.engine.lock:
            return self.engine.pool.found(run.sequence)

    def cancel(self, run: Run) -> None:
        """End a run before the next step, with `ended(None)`; its finish_reason stays as it is."""
        self._cancelled.append(run)

    def sweep(self) -> None:
        """See to those who came and were cancelled, unless a step is being made."""
        if (self._arrived or self._cancelled) and self.engine.lock.acquire(blocking=False):
            try:
                self._come_and_go()
            finally:
                self.engine.lock.release()

    def _place(self, run: Run) -> None:
        """Among whom a run finds what was read."""
        if self.limits.shared:
            run.sequence.space = ("", run.sequence.adapter)

    def standing(self) -> Standing:
        """How things stand."""
        working, cache = list(self._roster.working), self.engine.pool.cache
        writing = sum(task.writes for task in working)
        return Standing(
            writing=writing,
            reading=len(working) - writing,
            waiting=self._waiting,
            pages_used=cache.pages - cache.free - cache.idle,
            pages_kept=cache.idle,
            pages_free=cache.free,
            found_tokens=self._found,
            read_tokens=self._read,
        )

    def step(self) -> bool:
        """One forward pass over all that write plus a bounded piece of prompts, then the choices.

        False when there is nothing to do. What goes wrong with one run ends that run, with its error.
        """
        with self.engine.lock:
            self._come_and_go()
            done = self._resume() or self._pass()
            stuck = not done and bool(self._roster.active)
        if stuck:
            sleep(0.001)  # others, who read a text for its own sake, hold the whole cache
        return done or stuck

    def _come_and_go(self) -> None:
        """Those who arrived stand in line; those who were cancelled leave."""
        gone: set[Run] = set()
        while self._cancelled:  # before those who arrived: whoever did both a moment ago must be found among them
            gone.add(self._cancelled.popleft())
        while self._arrived:
            task = self._arrived.popleft()
            self._roster.line.push(task.run.request.owner, task)
        if gone:
            for task in self._roster.line.take(lambda task: task.run in gone):
                task.listener.ended(None)
            for task in [task for task in self._roster.working if task.run in gone]:
                self._end(task, None)

    def _resume(self) -> bool:
        """Go on where guesses were read and more is wanted only now; whether anybody did."""
        tasks = [task for task in self._roster.active if task.trial]
        for task in tasks:
            self._hear(task, task.run.sequence)
        return bool(tasks)

    def _pass(self) -> bool:
        """A forward pass and what comes of it; whether there was anything to read."""
        shares = self._roster.plan()
        if not shares:
            return False
        rows = sum(count for _, count in shares)
        reading = rows - sum(count == 1 for _, count in shares)
        try:
            guesses = self._guess(shares, rows, reading)
            started = perf_counter()
            ahead = {run.sequence: tokens for run, tokens in guesses.items()}
            logits = self.engine.forward([(task.run.sequence, count) for task, count in shares], ahead)
        except Exception as error:  # it would come again
            for task, _ in shares:
                self._end(task, error)
            return True
        self._choose(shares, logits, guesses)
        if reading >= MANY or self.engine.speculation:  # what others take is of interest to guesses alone
            self.cost.note(rows + sum(map(len, guesses.values())), reading, perf_counter() - started)
        return True

    def _guess(self, shares: list[Share], rows: int, reading: int) -> dict[Run, list[int]]:
        """Guess what comes next where somebody writes and it pays; pages are not taken from anybody for that."""
        speculation, pool = self.engine.speculation, self.engine.pool
        if speculation is None:
            return {}
        spare, runs = pool.available, list[tuple[Run, int]]()
        for task, count in shares:
            if count == 1:
                sequence, size = task.run.sequence, pool.cache.page
                room = len(sequence.pages) * size - len(sequence.ids) + (size if spare > 0 else 0)
                runs.append((task.run, min(room, task.run.most_tokens - len(sequence.ids) - 1)))
                spare -= 1
        return speculation.guess(runs, self.cost, rows, reading)

    def _choose(self, shares: list[Share], logits: Logits, guesses: Mapping[Run, list[int]]) -> None:
        """What came of a pass: who has read, and who chooses from which row of logits (rows, vocab)."""
        before = {task: task.run.sequence for task, _ in shares if not task.run.sequence.pending}
        rows, row = list[Logits](), 0
        for task, sequence in before.items():
            rows.append(logits[row])
            row += 1
            if tokens := guesses.get(task.run):
                task.trial = Trial(sequence, tokens, logits[row : row + len(tokens)])
                row += len(tokens)
        unheard = set(before)
        try:
            outcomes = dict(zip(before, self._choosers.choose([task.run for task in before], rows), strict=True))
            for task, count in shares:
                self._hear(task, before.get(task, task.run.sequence), count, outcomes.get(task), ready=task in before)
                unheard.discard(task)
        except BaseException:  # Ctrl-C: they may have chosen what nobody will be told
            for task in unheard.intersection(self._roster.working):
                self._end(task, LlameroError("a step was interrupted, and this answer has lost a token; ask again"))
            raise

    def _hear(
        self, task: Task, before: Sequence, read: int = 0, outcome: Outcome = None, *, ready: bool = False
    ) -> None:
        """Tell what a run read and chose, and go through its guesses. What goes wrong ends this run alone.

        before: its sequence until it chose, which is given up where older tokens were dropped. ready: whether it has
        read all it has.
        """
        run, pool = task.run, self.engine.pool
        try:
            self._note_read(task, read, ready)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                task.listener.chose(outcome)
            self._check(task)
            pool.settle(run.sequence, tail=ready and read > 1)
        except Exception as error:
            self._end(task, error)
        else:
            if run.finish_reason is not None:
                self._end(task, None)
        if before is not run.sequence:
            pool.release(before)

    def _note_read(self, task: Task, count: int, ready: bool) -> None:
        run, total = task.run, task.unread
        if not total:
            return
        run.read_tokens += count
        held = total if ready else run.sequence.held
        run.cached_tokens = max(0, held - run.read_tokens)
        if ready:
            task.unread = 0
            self._read += run.read_tokens
            self._found += run.cached_tokens
        task.listener.read(held, total)

    def _check(self, task: Task) -> None:
        """Go through the guesses, as long as they are what is chosen and more is wanted."""
        run = task.run
        while task.trial and not run.paused and run not in self._cancelled:
            row = task.trial.confirm(run)
            if row is None:
                if self.engine.speculation:
                    self.engine.speculation.judge(run, task.trial)
                task.trial = None
            elif choice := run.accept(row):
                task.listener.chose(choice)

    def _end(self, task: Task, error: Exception | None) -> None:
        self._roster.working.remove(task)
        if self.engine.speculation:
            self.engine.speculation.forget(task.run)
        if error is None:
            self.engine.pool.release(task.run.sequence)
        else:
            self.engine.pool.drop(task.run.sequence)
        task.listener.ended(error)
