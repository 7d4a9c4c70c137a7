"""The models that a server answers with, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from llamero.engine.generate import Progress
from llamero.engine.schedule import Limits, Scheduler
from llamero.errors import ModelNotFound, nearest
from llamero.interfaces.llama import Llama
from llamero.interfaces.server.worker import Worker


@dataclass(frozen=True)
class Served:
    """A model that is ready to answer. adapter: the LoRA adapter to write with, by its name."""

    name: str
    llama: Llama
    worker: Worker
    adapter: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the model's file, its settings or the program change, and with them perhaps the answers."""
        import llamero

        llama, stat = self.llama, self.llama.path.stat()
        parts = (llamero.__version__, self.name, stat.st_size, stat.st_mtime_ns, llama.context, llama.engine.ops.name)
        return "fp_" + sha256(repr(parts).encode()).hexdigest()[:10]


class Library:
    """One model, loaded already."""

    def __init__(self, llama: Llama, name: str | None = None, limits: Limits | None = None) -> None:
        self._name = name or llama.path.stem
        self._served = Served(self._name, llama, Worker(Scheduler(llama.engine, limits), self._name))

    def names(self) -> list[str]:
        """What may be asked for."""
        return [self._name]

    @asynccontextmanager
    async def use(self, name: str, progress: Progress | None = None) -> AsyncIterator[Served]:  # noqa: ARG002
        """The model of that name, which stays loaded meanwhile; "" is the first one.

        progress: told on the event loop (bytes read, bytes in all) while it is loaded. Raises ModelNotFound.
        """
        if name not in ("", self._name):
            raise ModelNotFound(f"there is no model {name!r} here: {nearest(name, self.names())}")
        yield self._served

    async def close(self) -> None:
        """Let go of everything."""
        await self._served.worker.close()
