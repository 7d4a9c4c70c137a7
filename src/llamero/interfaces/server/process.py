"""One server process, put together: models, routes, what stands before them, and how it learns that it is to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from llamero.engine.generate import Progress
from llamero.engine.schedule import Limits
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.catalogue import Catalogue
from llamero.interfaces.server.counts.exposition import Family
from llamero.interfaces.server.counts.metrics import Metrics
from llamero.interfaces.server.counts.siblings import Siblings
from llamero.interfaces.server.library import Housekeeping, Library
from llamero.interfaces.server.opening import Opener, Size
from llamero.interfaces.server.replicas import say_ready
from llamero.interfaces.server.serving import Server, Serving, protect


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to serve, and how. sizes: of the models that the operator named."""

    catalogue: Catalogue
    opener: Opener = field(default_factory=Opener)
    sizes: Mapping[str, Size] = field(default_factory=dict)
    housekeeping: Housekeeping = field(default_factory=Housekeeping)
    limits: Limits = field(default_factory=Limits)
    serving: Serving = field(default_factory=Serving)


@dataclass(frozen=True)
class Place:
    """A replica's: its number, the line to its parent, the folder where replicas meet."""

    index: int
    line: socket.socket
    folder: Path


async def serve_on(
    sock: socket.socket,
    plan: Plan,
    started: Callable[[Library], None],
    progress: Progress | None = None,
    place: Place | None = None,
) -> None:
    """Answer on the socket until told to stop. started: told once requests are answered.

    A model that is alone is loaded first, with `progress`; several are loaded when they are asked for.
    """
    metrics = Metrics()
    library = Library(plan.catalogue, plan.opener, plan.housekeeping, limits=plan.limits, metrics=metrics)
    siblings = Siblings(place.folder, place.index, lambda: metrics.families(library)) if place else None

    async def families() -> list[Family]:
        return await siblings.families() if siblings else metrics.families(library)

    app, drain = protect(make_app(library, families=families), plan.serving, metrics)

    def answering() -> None:
        if place:
            say_ready(place.line)
        started(library)

    server = Server(app, drain, plan.serving, answering)
    if len(plan.catalogue.entries()) == 1:
        async with library.use("", progress):
            pass
    if siblings and place:
        await siblings.open()
        _stop_with_parent(server, place.line)
    with closing(siblings) if siblings else nullcontext():
        await server.serve([sock])


def _stop_with_parent(server: Server, line: socket.socket) -> None:
    """When the parent is gone, its end of the line closes."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        if not line.recv(64):
            loop.remove_reader(line)
            server.handle_exit(signal.SIGTERM, None)

    loop.add_reader(line, heard)
