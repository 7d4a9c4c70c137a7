"""The models that a server answers with: loaded when they are asked for, and let go when room is needed.

What a model is counted with: the bytes of its weights, though they are mapped, for reading all of them in each step
makes sense only where they stay in memory; and its whole cache, though memory is touched only as it fills, for any
request may fill it. Not counted: activations, a few dozen MiB. When the budget is full, the model that was idle
longest goes first; one in use only when it is not: who asks for it waits, once another model has waited for a while.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from hashlib import sha256
from time import monotonic, perf_counter
from typing import Any

from llamero.engine.generate import Progress
from llamero.engine.schedule import Limits, Scheduler, Standing
from llamero.errors import LlameroError, LoadError, QueueFull, SettingError
from llamero.interfaces.calls.syntax import Syntax, syntax_of
from llamero.interfaces.llama import Llama
from llamero.interfaces.server.catalogue import Catalogue, Entry, name_of
from llamero.interfaces.server.counts.metrics import Metrics
from llamero.interfaces.server.opening import Opener
from llamero.interfaces.server.worker import Worker

_log = logging.getLogger("llamero.serve")


@dataclass(frozen=True)
class Served:
    """A model that is ready to answer. adapter: the LoRA adapter to write with, by its name."""

    name: str
    llama: Llama
    worker: Worker
    adapter: str | None = None
    adapted: dict[str, Served] = field(default_factory=dict, repr=False)  # kept, for what is found out once

    def with_adapter(self, name: str) -> Served:
        """The same model with an adapter."""
        if name not in self.adapted:
            self.adapted[name] = replace(self, adapter=name)
        return self.adapted[name]

    @property
    def full_name(self) -> str:
        """MODEL, or MODEL:ADAPTER."""
        return f"{self.name}:{self.adapter}" if self.adapter else self.name

    @cached_property
    def call_syntax(self) -> Syntax | None:
        """How the model writes calls of functions; None where its template shows it none. Found by rendering once."""
        return syntax_of(self.llama.chat_template, self.llama.tokenizer.special_tokens)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the model's file, its settings or the program change, and with them perhaps the answers."""
        import llamero

        llama, stat = self.llama, self.llama.path.stat()
        parts = (llamero.__version__, self.name, stat.st_size, stat.st_mtime_ns, llama.context, llama.engine.ops.name)
        return "fp_" + sha256(repr(parts).encode()).hexdigest()[:10]


@dataclass(frozen=True, kw_only=True)
class Housekeeping:
    """memory: bytes for all models together; None is no limit. keep_alive: seconds that an idle model stays; None is
    for good. patience: seconds that a request waits for room while all models are in use. turn: seconds until those
    who come for a model in use wait for the one that waits.
    """

    memory: int | None = None
    keep_alive: float | None = None
    patience: float = 30.0
    turn: float = 5.0

    def __post_init__(self) -> None:
        if self.keep_alive is not None and self.keep_alive < 0:
            raise SettingError(f"keep-alive must not be negative, got {self.keep_alive}")
        if self.memory is not None and self.memory < 1 << 16:
            raise SettingError(f"a memory budget of {self.memory} bytes holds no model; give it as 8G or 500M")


@dataclass(eq=False)
class _Shelf:
    """One model's place: empty, being filled, or holding it. leaving: ends the wait for one that waits for its room."""

    entry: Entry
    needs: int = 0
    served: Served | None = None
    loading: asyncio.Task[None] | None = None
    watchers: set[Progress] = field(default_factory=set)
    users: int = 0
    leaving: asyncio.Event | None = None
    idle_since: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Library:
    """Models by name. All methods are called on one event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        opener: Opener | None = None,
        rules: Housekeeping | None = None,
        *,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.catalogue = catalogue
        self._opener, self._rules = opener or Opener(), rules or Housekeeping()
        self._limits, self._metrics = limits, metrics
        self._shelves: dict[str, _Shelf] = {}
        self._room = asyncio.Lock()  # who makes room does so alone
        self._released = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, llama: Llama, name: str | None = None, limits: Limits | None = None) -> Library:
        """A library of one model, loaded already."""
        entry = Entry(name=name or name_of(llama.path), path=llama.path)
        library = cls(Catalogue([entry]), limits=limits)
        shelf = library._shelf(entry)
        shelf.served = library._serve(entry, llama)
        return library

    def names(self) -> list[str]:
        """What may be asked for."""
        return self.catalogue.names()

    def loaded(self) -> list[str]:
        """The models in memory, by name."""
        return [name for name, shelf in self._shelves.items() if shelf.served]

    def standings(self) -> dict[str, Standing]:
        """How each loaded model stands."""
        return {name: shelf.served.worker.scheduler.standing() for name, shelf in self._shelves.items() if shelf.served}

    def memory(self) -> dict[str, int]:
        """Bytes that each loaded model is counted with."""
        return {name: shelf.needs for name, shelf in self._shelves.items() if shelf.served}

    @asynccontextmanager
    async def use(self, name: str, progress: Progress | None = None) -> AsyncIterator[Served]:
        """The model of that name, MODEL:ADAPTER with its adapter; it stays loaded meanwhile. "" is the first one.

        progress: told on the event loop (bytes read, bytes in all) while it is loaded.
        Raises ModelNotFound for a name that is not here, QueueFull where there is no room for now, and LoadError.
        """
        entry, adapter = self.catalogue.find(name)
        shelf = self._shelf(entry)
        while shelf.leaving:
            await shelf.leaving.wait()
        shelf.users += 1
        try:
            served = shelf.served or await self._wait(shelf, progress)
            yield served.with_adapter(adapter) if adapter else served
        finally:
            shelf.users -= 1
            if not shelf.users:
                self._rest(shelf)

    async def close(self) -> None:
        """Let go of everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._room:
            for shelf in self._shelves.values():
                await self._unload(shelf)

    def _shelf(self, entry: Entry) -> _Shelf:
        shelf = self._shelves.setdefault(entry.name, _Shelf(entry))
        if shelf.served is None and shelf.loading is None:
            shelf.entry = entry  # a file in a folder may have been replaced
        return shelf

    async def _wait(self, shelf: _Shelf, progress: Progress | None) -> Served:
        """Wait until the model is loaded; the first who waits has it loaded, and all hear the same end."""
        if shelf.loading is None:
            shelf.loading = self._spawn(self._load(shelf))
        loading = shelf.loading
        if progress:
            shelf.watchers.add(progress)
        try:
            await asyncio.shield(loading)  # who leaves does not take the others' model away
        finally:
            if progress:
                shelf.watchers.discard(progress)
        assert shelf.served is not None, "a load ends with a model or an error"
        return shelf.served

    async def _load(self, shelf: _Shelf) -> None:
        entry, started, result = shelf.entry, perf_counter(), "failed"
        loop = asyncio.get_running_loop()

        def told(done: int, total: int) -> None:  # by the thread that loads
            loop.call_soon_threadsafe(_tell, shelf.watchers, done, total)

        try:
            size = await asyncio.to_thread(self._opener.size, entry)
            await self._reserve(shelf, size.nbytes)
            llama = await asyncio.to_thread(self._opener.open, entry, size, told)
            shelf.served, result = self._serve(entry, llama), "loaded"
            if not shelf.users:  # all who asked have left
                self._rest(shelf)
            _log.info("model loaded", extra={"model": entry.name, "seconds": round(perf_counter() - started, 3)})
        except QueueFull:
            raise
        except Exception as error:
            _log.error("model failed to load", extra={"model": entry.name, "reason": str(error)})
            raise LoadError(f"the model {entry.name!r} cannot be loaded: {_public(error, entry)}") from error
        finally:
            shelf.loading = None
            if shelf.served is None:
                shelf.needs = 0
            self._released.set()
            if self._metrics:
                self._metrics.loads.add(entry.name, result)
                self._metrics.load_seconds.observe(perf_counter() - started, entry.name)

    def _serve(self, entry: Entry, llama: Llama) -> Served:
        watch = None
        if self._metrics:
            watch = partial(self._metrics.listen, model=entry.name)
        return Served(entry.name, llama, Worker(Scheduler(llama.engine, self._limits), entry.name, watch))

    async def _reserve(self, shelf: _Shelf, needs: int) -> None:
        """Count the model in, having let go of others where the budget asks for it."""
        budget = self._rules.memory
        if budget is not None and needs > budget:
            there = f"all models together may have {budget / 2**30:.2f}"
            raise LoadError(f"it needs {needs / 2**30:.2f} GiB of memory with its cache (--room); {there} (--memory)")
        began = monotonic()
        async with self._room:
            try:
                while budget is not None and needs + sum(other.needs for other in self._shelves.values()) > budget:
                    await self._let_one_go(monotonic() - began, shelf.entry.name)
            finally:
                for other in self._shelves.values():
                    if other.leaving:
                        other.leaving.set()
                        other.leaving = None
            shelf.needs = needs

    async def _let_one_go(self, waited: float, name: str) -> None:
        """Unload an idle model, or wait for one to become idle; after a while none are let in to the least used one."""
        rules, loaded = self._rules, [other for other in self._shelves.values() if other.served]
        if idle := [other for other in loaded if not other.users]:
            await self._unload(min(idle, key=lambda other: other.idle_since))
        elif waited >= rules.patience:
            raise QueueFull(f"there is no memory for the model {name!r} while others are in use; try again later")
        else:
            until = rules.turn if waited < rules.turn else rules.patience
            if waited >= rules.turn and loaded and not any(other.leaving for other in loaded):
                min(loaded, key=lambda other: other.users).leaving = asyncio.Event()
            self._released.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), min(until, rules.patience) - waited)

    def _rest(self, shelf: _Shelf) -> None:
        """Nobody uses the model any more: it may have to go, now or after a while."""
        shelf.idle_since = monotonic()
        self._released.set()
        if self._rules.keep_alive is not None and shelf.served:
            if shelf.timer:
                shelf.timer.cancel()
            loop = asyncio.get_running_loop()
            shelf.timer = loop.call_later(self._rules.keep_alive, lambda: self._spawn(self._expire(shelf)))

    async def _expire(self, shelf: _Shelf) -> None:
        async with self._room:
            idle = monotonic() - shelf.idle_since
            if not shelf.users and self._rules.keep_alive is not None and idle >= self._rules.keep_alive - 0.01:
                await self._unload(shelf)

    async def _unload(self, shelf: _Shelf) -> None:
        """Only under the lock of `_room`: until it is over, the model's memory is still counted."""
        served, shelf.served = shelf.served, None
        if shelf.timer:
            shelf.timer.cancel()
            shelf.timer = None
        if served is None:
            return
        await served.worker.close()
        served.llama.close()
        del served
        gc.collect()  # listeners and runs go round in circles, and hold on to the cache
        shelf.needs = 0
        self._released.set()
        _log.info("model unloaded", extra={"model": shelf.entry.name})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, also when all who waited have left


def _tell(watchers: set[Progress], done: int, total: int) -> None:
    for watcher in list(watchers):
        watcher(done, total)


def _public(error: Exception, entry: Entry) -> str:
    """What went wrong, without where on this machine the model lies; the log has the whole."""
    if not isinstance(error, LlameroError):
        return "its file could not be read; the server's log says why"
    return str(error).replace(str(entry.path), entry.name).replace(str(entry.path.parent), "")
