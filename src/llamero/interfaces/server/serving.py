"""One server process: the app behind its guards, on a socket, until it is told to stop.

On SIGTERM or SIGINT no new work is taken and `/health` says so; answers at work may end, for at most `drain` seconds.
A second signal ends everything at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType

import uvicorn

from llamero.engine.sampling import check_number
from llamero.errors import SettingError
from llamero.interfaces.server.counts.metrics import Counted, Metrics
from llamero.interfaces.server.door.asgi import App
from llamero.interfaces.server.door.bounds import Bounds, Limits
from llamero.interfaces.server.door.connection import Connection
from llamero.interfaces.server.door.drain import Drain
from llamero.interfaces.server.door.guard import Guard, Rules
from llamero.interfaces.server.door.keys import Keys
from llamero.interfaces.server.door.logs import Logged

_BACKLOG = 1024
_SPARE = 64  # connections beyond the limit that are told so; the next are closed at once
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a server behaves on the network. drain: seconds. connections: at most so many at once. keys: None is none.

    send_seconds: a reader may take nothing for so long. certificate, private_key: PEM files, for https.
    """

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    keys: Keys | None = None
    drain: float = 30.0
    connections: int = 512
    send_seconds: float = 60.0
    log_prompts: bool = False
    certificate: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise SettingError("https needs both --ssl-certfile and --ssl-keyfile")
        for path in (self.certificate, self.private_key):
            if path is not None and not path.is_file():
                raise SettingError(f"{path} is not there; https needs a PEM file")
        check_number("--drain-timeout", self.drain, float, 0, 10**6)
        check_number("--max-connections", self.connections, int, 1, 2**20)
        check_number("--send-timeout", self.send_seconds, float, 0.01, 10**6)


def protect(app: App, serving: Serving, metrics: Metrics) -> tuple[App, Drain]:
    """The app behind all that stands before it, outermost first: log, counts, guard, drain, bounds."""
    bounds = Bounds(app, serving.limits)
    drain = Drain(bounds, bounds.cut, serving.connections)
    guard = Guard(drain, serving.rules, serving.keys)
    return Logged(Counted(guard, metrics), prompts=serving.log_prompts), drain


def listen(host: str, port: int, patience: float) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. patience: seconds until a reader who takes nothing is cut off.

    Raises SettingError for an address that is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. asyncio sets it on sockets of its own making only, and without it each small
        # answer waits 40 ms for the client's acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it; it counts closed windows, too
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise SettingError(_why(error, host, port)) from error
    return sock


def listen_at(path: Path) -> socket.socket:
    """A listening Unix socket that its owner's group may use. Raises SettingError where it cannot be made."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()  # of a server that was killed
        before = os.umask(0o117)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise SettingError(f"cannot listen at the socket {path}: {error.strerror or error}") from error
    return sock


class Server(uvicorn.Server):
    """uvicorn's server, with a drain of our own: it keeps answering, so that who sends work learns to stop."""

    def __init__(self, app: App, drain: Drain, serving: Serving, started: Callable[[], None] | None = None) -> None:
        """started: told once requests are answered."""
        config = uvicorn.Config(
            app,
            http=partial(Connection, most=serving.connections + _SPARE, send_seconds=serving.send_seconds),  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=32 << 10,
            ssl_certfile=serving.certificate,
            ssl_keyfile=serving.private_key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise SettingError(f"the certificate or its key cannot be used: {error}") from error
        super().__init__(config)
        self._drain, self._patience, self._on_start = drain, serving.drain, started
        self._until: float | None = None
        drain.connected = lambda: len(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are taken while we serve, and the process ends by itself afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The first signal begins the drain, the second ends it."""
        if self._until is None:
            self._until = monotonic() + self._patience
            self._drain.begin()
        else:
            self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start:
            self._on_start()

    async def on_tick(self, counter: int) -> bool:
        if self._until is not None and not self.should_exit:
            if self._drain.working and monotonic() >= self._until:
                self._until = float("inf")
                self._drain.cut()
            self.should_exit = not self._drain.working
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.force_exit:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _why(error: Exception, host: str, port: int) -> str:
    if isinstance(error, OverflowError) or not 0 <= port < 65536:
        return f"a port is a number from 0 to 65535, got {port}"
    number = getattr(error, "errno", None)
    reasons = {
        98: f"port {port} of {host} is taken by another program; choose another with --port, or 0 for any free one",
        99: f"{host} is no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 all its addresses",
        13: f"port {port} may be used by root only; choose one from 1024 up, or put a reverse proxy before llamero",
    }
    return reasons.get(number or 0, f"cannot listen at {host}, port {port}: {error}")
