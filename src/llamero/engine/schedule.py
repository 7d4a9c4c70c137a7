"""The scheduler: many requests, one model. It decides who reads and who writes in each step.

A step holds the next token of every run that writes, and a piece of the prompts, so large that the step stays short
(`pace.py`). Runs are served in the order in which they were let in; who is let in next is fair between owners
(`line.py`). A run whose next tokens another is just reading waits for the page instead of reading it too. When the
cache is full, the youngest give way: they keep their answer and read their tokens again later.

Threads. `step` is called by one thread at a time, the model's worker. `submit`, `cancel` and `standing` may be called
from any thread at any moment; a submission or a cancellation takes effect before the next step. Listeners are called
by the thread that steps, must return quickly, and may call `submit` and `cancel`. `generate` is for those who have no
worker: whoever wants a token steps, for all who want one.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from llamero.engine.choosing import Choosers, Outcome
from llamero.engine.line import Line
from llamero.engine.pace import Pace
from llamero.engine.request import Run
from llamero.engine.sampling import Choice, Logits
from llamero.engine.sequence import Sequence as Tokens
from llamero.engine.speculate import Trial
from llamero.engine.tree import shared
from llamero.errors import ContextOverflow, QueueFull, SettingError

if TYPE_CHECKING:
    from llamero.engine.generate import Engine, Progress

_WORTH_WAITING = 16  # tokens that another reads just now


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


@dataclass(eq=False)
class _Task:
    """A run and its listener. total: tokens of its prompt, until these have been read. trial: guesses to look at."""

    run: Run
    listener: Listener
    total: int
    trial: Trial | None = None

    @property
    def writes(self) -> bool:
        return self.run.sequence.pending == 1 and not self.run.paused

    @property
    def reads(self) -> bool:
        return self.run.sequence.pending != 1 and not self.run.paused


_Share: TypeAlias = tuple[_Task, int]


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
        self._choosers = Choosers(getattr(engine.ops, "threads", 1))
        self._pace = Pace(self.limits.step_seconds, engine.chunk)
        self._door = threading.Lock()  # one submits at a time
        self._arrived: deque[_Task] = deque()
        self._cancelled: deque[Run] = deque()
        # The rest is touched under the engine's lock only.
        self._line: Line[_Task] = Line()
        self._working: list[_Task] = []
        self._found = self._read = 0

    @property
    def busy(self) -> bool:
        """Whether anybody is served or waits."""
        return bool(self._working or self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._line) + len(self._arrived)

    def submit(self, run: Run, listener: Listener) -> None:
        """Let a run wait for its turn. Raises QueueFull when too many wait."""
        task = _Task(run, listener, len(run.sequence.ids))
        self._place(run)
        with self._door:
            if self._waiting >= self.limits.waiting:
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

    def _place(self, run: Run) -> None:
        """Among whom a run finds what was read."""
        if self.limits.shared:
            run.sequence.space = ("", run.sequence.adapter)

    def standing(self) -> Standing:
        """How things stand."""
        working, cache = list(self._working), self.engine.pool.cache
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
            return self._step()

    def generate(self, run: Run, progress: Progress | None = None) -> Generator[Choice]:
        """The answer's tokens, one by one, each chosen when it is asked for.

        progress: told while a prompt longer than one chunk is read. Raises what `Listener.ended` would be told.
        """
        heard = _Heard(run, progress, self.engine.chunk)
        started = perf_counter()
        self.submit(run, heard)
        try:
            while True:
                choice = self._await(run, heard)
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
            self.cancel(run)
            if self.engine.lock.acquire(blocking=False):  # else whoever steps will see to it
                try:
                    self._come_and_go()
                finally:
                    self.engine.lock.release()

    def _await(self, run: Run, heard: _Heard) -> Choice | None:
        """Step until the run has a choice, or ends."""
        run.paused = False
        while not heard.choices and not heard.over:
            with self.engine.lock:
                if not heard.choices and not heard.over:
                    self._step()
        if heard.error:
            raise heard.error
        return heard.choices.popleft() if heard.choices else None

    def _step(self) -> bool:
        self._come_and_go()
        if self._resume():
            return True
        shares = self._plan()
        if not shares:
            if any(not task.run.paused for task in self._working):
                sleep(0.001)  # others, who read a text for its own sake, hold the whole cache
                return True
            return False
        try:
            guesses = self._guess(shares)
            started = perf_counter()
            logits = self.engine.forward([(task.run.sequence, count) for task, count in shares])
        except Exception as error:  # it would come again
            for task, _ in shares:
                self._end(task, error)
            return True
        written = sum(count == 1 for _, count in shares)
        read = sum(count for _, count in shares) - written
        if self.engine.speculation:
            rows = read + written + sum(map(len, guesses.values()))
            self.engine.speculation.note(rows, read, perf_counter() - started)
        self._hear(shares, logits, guesses)
        self._pace.note(read, written, perf_counter() - started)
        return True

    def _come_and_go(self) -> None:
        """Those who arrived stand in line; those who were cancelled leave."""
        while self._arrived:
            task = self._arrived.popleft()
            self._line.push(task.run.request.owner, task)
        gone: set[Run] = set()
        while self._cancelled:
            gone.add(self._cancelled.popleft())
        if gone:
            for task in self._line.take(lambda task: task.run in gone):
                task.listener.ended(None)
            for task in [task for task in self._working if task.run in gone]:
                self._end(task, None)

    def _plan(self) -> list[_Share]:
        """Who takes part in the next step, with how many tokens; their pages are reserved."""
        shares: list[_Share] = []
        for task in list(self._working):
            if task.writes and self._room(task, 1, shares):
                shares.append((task, 1))
        room, reading = self._pace.chunk(len(shares)), list[_Task]()
        for task in self._readers():
            if room <= 0:
                break
            pool, sequence = self.engine.pool, task.run.sequence
            if not sequence.pending:
                pool.release(sequence)  # a step was broken off between reading and choosing
            pool.follow(sequence)
            if self._in_the_making(task, reading):
                continue
            pool.borrow(sequence)
            count = min(room, sequence.pending)
            if not self._room(task, count, shares):
                break
            shares.append((task, count))
            reading.append(task)
            room -= count
        return shares

    def _readers(self) -> Iterator[_Task]:
        """Those whose prompts are being read, then those who are let in."""
        yield from [task for task in self._working if task.reads]
        while len(self._working) < self.limits.working:
            owner = self._line.head(Counter(task.run.request.owner for task in self._working))
            if owner is None or not self._fits(self._line.first(owner)):
                return
            task = self._line.pop(owner)
            task.run.began = perf_counter()
            self._working.append(task)
            yield task

    def _fits(self, task: _Task) -> bool:
        """Whether a run can be let in without taking room that those at work will soon need."""
        pool, sequence = self.engine.pool, task.run.sequence
        pool.follow(sequence)
        size = pool.cache.page
        missing = len(sequence.ids) // size + 1 - len(sequence.pages)
        active = [other.run for other in self._working if not other.run.paused]
        growing = sum(run.most_tokens > len(run.sequence.pages) * size for run in active)  # each by a page at a time
        if not active or missing + growing <= pool.available:
            return True
        pool.drop(sequence)
        return False

    def _in_the_making(self, task: _Task, reading: Sequence[_Task]) -> bool:
        """Whether one of those who read in this step makes the page that the task needs next."""
        sequence, size = task.run.sequence, self.engine.pool.cache.page
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

    def _room(self, task: _Task, count: int, shares: Sequence[_Share]) -> bool:
        """Reserve pages for so many more tokens, if they are to be had.

        Paused runs give way to all, the younger to those who write, and everybody to the first of a step.
        """
        pool, sequence = self.engine.pool, task.run.sequence
        tokens = sequence.held + count
        if tokens <= len(sequence.pages) * pool.cache.page:
            return True
        taking_part = {other for other, _ in shares}
        place = self._working.index(task)
        others = [other for other in self._working if other is not task and other not in taking_part]
        able = [
            other.run.sequence
            for other in sorted(others, key=lambda other: other.run.paused)
            if other.run.paused or not shares or (task.writes and self._working.index(other) > place)
        ]
        try:
            pool.reserve(sequence, tokens, reversed(able))
        except ContextOverflow:
            return False
        return True

    def _guess(self, shares: Sequence[_Share]) -> dict[Run, list[int]]:
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
        rows = sum(count for _, count in shares)
        guesses = speculation.guess(runs, rows, rows - len(runs))
        for run, tokens in guesses.items():
            run.sequence.ahead = list(tokens)
        return guesses

    def _resume(self) -> bool:
        """Go on where guesses were read and more is wanted only now; whether anybody did."""
        tasks = [task for task in self._working if task.trial and not task.run.paused]
        for task in tasks:
            sequence = task.run.sequence
            try:
                self._check(task)
                self.engine.pool.settle(task.run.sequence)
            except Exception as error:  # this run alone has failed
                self._end(task, error)
            else:
                if task.run.finish_reason is not None:
                    self._end(task, None)
            if sequence is not task.run.sequence:
                self.engine.pool.release(sequence)  # older tokens were dropped
        return bool(tasks)

    def _hear(self, shares: Sequence[_Share], logits: Logits, guesses: Mapping[Run, list[int]]) -> None:
        """What came of a step: who has read, and who chooses from which row (rows, vocab)."""
        before: dict[_Task, Tokens] = {}
        rows, row = list[Logits](), 0
        for task in (task for task, _ in shares if not task.run.sequence.pending):
            before[task] = task.run.sequence
            rows.append(logits[row])
            row += 1
            if tokens := guesses.get(task.run):
                task.trial = Trial(task.run.sequence, tokens, logits[row : row + len(tokens)])
                row += len(tokens)
        outcomes = dict(zip(before, self._choosers.choose([task.run for task in before], rows), strict=True))
        for task, count in shares:
            sequence = before.get(task)
            try:
                self._note_read(task, count, sequence is not None)
                self._tell(task, outcomes.get(task))
                self._check(task)
                self.engine.pool.settle(task.run.sequence, tail=sequence is not None and count > 1)
            except Exception as error:  # this run alone has failed
                self._end(task, error)
            else:
                if task.run.finish_reason is not None:
                    self._end(task, None)
            if sequence is not None and sequence is not task.run.sequence:
                self.engine.pool.release(sequence)  # older tokens were dropped

    def _check(self, task: _Task) -> None:
        """Go through the guesses, as long as they are what is chosen and more is wanted."""
        run = task.run
        while task.trial and not run.paused and run not in self._cancelled:
            row = task.trial.confirm(run)
            if row is not None:
                self._tell(task, run.accept(row))
            else:
                if self.engine.speculation:
                    self.engine.speculation.judge(run, task.trial)
                task.trial = None

    def _note_read(self, task: _Task, count: int, done: bool) -> None:
        run, total = task.run, task.total
        if not total:
            return
        run.read_tokens += count
        held = total if done else run.sequence.held
        run.cached_tokens = max(0, held - run.read_tokens)
        if done:
            task.total = 0
            self._read += run.read_tokens
            self._found += run.cached_tokens
        task.listener.read(held, total)

    def _tell(self, task: _Task, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            task.listener.chose(outcome)

    def _end(self, task: _Task, error: Exception | None) -> None:
        self._working.remove(task)
        if self.engine.speculation:
            self.engine.speculation.forget(task.run)
        if error is None:
            self.engine.pool.release(task.run.sequence)
        else:
            self.engine.pool.drop(task.run.sequence)
        task.listener.ended(error)


@dataclass(eq=False)
class _Heard:
    """The listener of `generate`: it keeps what it hears, and pauses the run until more is wanted."""

    run: Run
    progress: Progress | None
    chunk: int
    choices: deque[Choice] = field(default_factory=deque)
    over: bool = False
    error: Exception | None = None

    def read(self, done: int, total: int) -> None:
        found = self.run.cached_tokens
        if self.progress and total - found > self.chunk:
            self.progress(done - found, total - found)

    def chose(self, choice: Choice) -> None:
        self.run.paused = True
        self.choices.append(choice)

    def ended(self, error: Exception | None) -> None:
        self.over, self.error = True, error
