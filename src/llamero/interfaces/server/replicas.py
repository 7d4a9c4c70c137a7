"""Several server processes on one listening socket: started, watched, started again when they die, stopped together.

The kernel hands a new connection to whichever process takes it first, so a busy one gets fewer. Weights are mapped, so
all share one copy in memory; each has its own cache. A process that finds its parent gone stops as if told to.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from time import monotonic
from types import FrameType

from llamero.errors import LoadError

_log = logging.getLogger("llamero.serve")
_YOUNG = 10.0  # seconds; a process that dies before is started again only after a while
_PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a start, after so many early deaths
_READY = b"ready\n"


@dataclass(eq=False)
class _Replica:
    """One process. line: closes when either end dies, and tells the parent when the process answers.

    told: signals that were passed on.
    """

    index: int
    process: BaseProcess | None = None
    line: socket.socket | None = None
    ready: bool = False
    told: int = 0
    began: float = 0.0
    due: float = 0.0
    early_deaths: int = 0


class Replicas:
    """The parent of the processes."""

    def __init__(self, start: Callable[[int, socket.socket], BaseProcess], count: int, drain: float) -> None:
        """start(index, line): starts one, which keeps its end of the line. drain: seconds that they may take to end."""
        self._start, self._drain = start, drain
        self._replicas = [_Replica(index) for index in range(count)]
        self._stopping: float | None = None
        self._signals = 0
        self._wake_read, self._wake_write = socket.socketpair()

    def run(self, ready: Callable[[], None]) -> int:
        """Until told to stop -> exit code. ready: called once when all answer.

        Raises LoadError when no process comes to answer at all.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._told) for number in numbers}
        told = False
        try:
            while self._stopping is None or any(replica.process for replica in self._replicas):
                self._start_due()
                self._pass_on()
                self._look()
                if not told and all(replica.ready for replica in self._replicas):
                    told = True
                    ready()
        finally:
            self._kill()
            for number, handler in before.items():
                signal.signal(number, handler)
            self._wake_read.close()
            self._wake_write.close()
        return 0

    def _told(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1
        self._stopping = monotonic()
        self._wake_write.send(b"!")

    def _pass_on(self) -> None:
        """The first signal asks all to drain, the second ends them; also those that were being started meanwhile."""
        for replica in self._replicas:
            if replica.process and replica.told < self._signals:
                replica.told = self._signals
                if self._signals == 1:
                    replica.process.terminate()
                else:
                    replica.process.kill()

    def _start_due(self) -> None:
        now = monotonic()
        for replica in self._replicas:
            if replica.process is None and self._stopping is None and now >= replica.due:
                ours, theirs = socket.socketpair()
                replica.process = self._start(replica.index, theirs)
                theirs.close()
                replica.line, replica.ready, replica.told, replica.began = ours, False, 0, now

    def _look(self) -> None:
        """Wait for news: a line that tells or closes, a signal, a start that is due, patience at an end."""
        lines = {replica.line: replica for replica in self._replicas if replica.line}
        heard, _, _ = select.select([*lines, self._wake_read], [], [], 0.5)
        for line in heard:
            if line is self._wake_read:
                self._wake_read.recv(64)
            elif line.recv(64) == _READY:
                lines[line].ready = True
        for replica in self._replicas:
            if replica.process and replica.process.exitcode is not None:
                self._died(replica, replica.process)
        if self._stopping is not None and monotonic() > self._stopping + self._drain + 5.0:
            self._kill()

    def _died(self, replica: _Replica, process: BaseProcess) -> None:
        if replica.line:
            replica.line.close()
        replica.process = replica.line = None
        if self._stopping is not None:
            return
        said = {"replica": replica.index, "pid": process.pid, "exit": process.exitcode}
        if not replica.ready and process.exitcode == 1 and not any(other.ready for other in self._replicas):
            raise LoadError("a replica could not start; see above")
        now = monotonic()
        replica.early_deaths = replica.early_deaths + 1 if now - replica.began < _YOUNG else 0
        pause = _PAUSES[min(replica.early_deaths, len(_PAUSES) - 1)]
        replica.ready, replica.due = False, now + pause
        _log.error("replica died; it is started again", extra={**said, "pause": pause})

    def _kill(self) -> None:
        for replica in self._replicas:
            if replica.process:
                replica.process.kill()
                replica.process.join()
                replica.process = None
            if replica.line:
                replica.line.close()
                replica.line = None


def say_ready(line: socket.socket) -> None:
    """Told by a replica once it answers."""
    with suppress(OSError):
        line.send(_READY)
