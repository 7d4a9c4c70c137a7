"""A thread that steps one model's scheduler, and hands what the scheduler tells to the event loop.

All that one step tells crosses in one hop. The thread starts with the first run and sleeps while there is nothing to
do; nothing polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Protocol, TypeVar, cast

from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.engine.schedule import Scheduler
from llamero.errors import DeviceError, QueueFull

T = TypeVar("T")
_MOST_ASIDE = 256  # requests

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who waits for an answer, on the event loop; it is told what the scheduler's listeners are."""

    def read(self, done: int, total: int) -> None: ...
    def chose(self, choice: Choice, at: float) -> None:
        """The next token. at: when it was chosen (perf_counter), however many come together."""
        ...

    def ended(self, error: Exception | None) -> None: ...


class Watched(Listener, Protocol):
    """A listener that is also told when its run was cancelled, and why."""

    def cancelled(self, reason: str) -> None: ...


class Worker:
    """One scheduler at work. Its methods are called on one event loop, and listeners are told there."""

    def __init__(
        self, scheduler: Scheduler, name: str = "model", watch: Callable[[Run, Listener], Watched] | None = None
    ) -> None:
        """watch: puts a listener of its own around each run's, to measure."""
        self.scheduler = scheduler
        self._watch = watch
        self._name = name
        self._outbox: deque[tuple[Run, Callable[[Listener], None]]] = deque()
        self._listeners: dict[Run, Listener | Watched] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False
        self._side = ThreadPoolExecutor(1, thread_name_prefix=f"llamero aside {name}")
        self._aside = 0

    def submit(self, run: Run, listener: Listener) -> None:
        """Let a run wait for its turn. Raises QueueFull, and DeviceError once the worker is closed."""
        if self._closed:
            raise self._closing()
        self.scheduler.submit(run, _Relay(self._outbox, run))
        self._listeners[run] = self._watch(run, listener) if self._watch else listener
        self._start()
        self._wake.set()

    def cancel(self, run: Run, reason: str = "cancelled") -> None:
        """End a run before the next step; its listener is told nothing more. A run that is over may be cancelled."""
        if listener := self._listeners.pop(run, None):
            self.scheduler.cancel(run)
            self._wake.set()
            if self._watch:
                cast(Watched, listener).cancelled(reason)

    async def aside(self, work: Callable[..., T], *words: Any) -> T:
        """What `work` gives, done in one thread beside the steps; it takes turns with them at the engine's lock.

        Raises QueueFull when too much waits already.
        """
        if self._closed:
            raise self._closing()
        if self._aside >= _MOST_ASIDE:
            raise QueueFull(f"{self._aside} requests wait already, the most that may; try again later")
        self._aside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._side, work, *words)
        finally:
            self._aside -= 1

    async def close(self) -> None:
        """Stop after the step at hand; what is still at work ends with an error."""
        self._closed = True
        self._wake.set()
        self._side.shutdown(wait=False, cancel_futures=True)
        if self._thread:
            await asyncio.to_thread(self._thread.join)
        self._deliver()

    def _closing(self) -> DeviceError:
        return DeviceError(f"the model {self._name!r} is being closed; ask again later")

    def _start(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name=f"llamero {self._name}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            while not self._closed and self._step():
                self._post()
            self._post()
        self._abandon(DeviceError(f"the model {self._name!r} was closed while it wrote"))
        self._step()  # with nothing left to do but to let go of what was cancelled

    def _step(self) -> bool:
        try:
            return self.scheduler.step()
        except Exception as error:  # one run's own errors come to its listener; this is a defect of ours
            _log.exception("a step of %s failed", self._name)
            self._abandon(error)
            return True

    def _abandon(self, error: Exception) -> None:
        for run in list(self._listeners):
            self.scheduler.cancel(run)
            _Relay(self._outbox, run).ended(error)

    def _post(self) -> None:
        """One hop for all that a step told."""
        if self._outbox and self._loop:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._outbox:
            run, tell = self._outbox.popleft()
            over = isinstance(tell, _End)
            if listener := self._listeners.pop(run, None) if over else self._listeners.get(run):
                tell(listener)


class _End:
    """The last thing that a listener is told."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def __call__(self, listener: Listener) -> None:
        listener.ended(self._error)


class _Relay:
    """The scheduler's listener: what it is told is put down for the event loop."""

    def __init__(self, outbox: deque[tuple[Run, Callable[[Listener], None]]], run: Run) -> None:
        self._outbox, self._run = outbox, run

    def read(self, done: int, total: int) -> None:
        self._outbox.append((self._run, lambda listener: listener.read(done, total)))

    def chose(self, choice: Choice) -> None:
        at = perf_counter()
        self._outbox.append((self._run, lambda listener: listener.chose(choice, at)))

    def ended(self, error: Exception | None) -> None:
        self._outbox.append((self._run, _End(error)))
