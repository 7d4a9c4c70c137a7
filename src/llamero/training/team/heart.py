"""Each process of a team gives signs of life; when one stops, all stop within the minute and say which one and why."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from threading import Event, Thread
from typing import Final

from torch.distributed.distributed_c10d import Store

_EVERY: Final = 2.0  # seconds between two signs
PATIENCE: Final = 20.0
"""Seconds without a sign after which a process counts as dead."""
_DONE: Final = "done"


class Heart:
    """A thread that gives signs of this process in the team's store and watches those of its neighbour.

    Whoever finds its neighbour dead, or fails itself, writes a verdict, which all read: so the store has as much work
    as there are processes, not their square. A process that is stuck waiting for others cannot be reached otherwise
    than by ending it, which the thread does, with the verdict as its last words.
    """

    def __init__(self, store: Store, process: int, processes: int, patience: float = PATIENCE) -> None:
        self._store, self._patience = store, patience
        self._process, self._neighbour = process, (process + 1) % processes
        self._over, self._caught = Event(), Event()
        self._sign, self._silent, self._count = b"", 0, 0
        self.name = f"process {process} ({socket.gethostname()}, pid {os.getpid()})"
        store.set(f"name/{process}", self.name)
        self._thread = Thread(target=self._live, name="heart", daemon=True)
        self._thread.start()

    def hand_over(self) -> None:
        """From now on a verdict does not end this process: it will find out by itself."""
        self._caught.set()

    def rest(self) -> None:
        """All is done here: no more signs are to be expected."""
        self._over.set()
        self._thread.join()
        with suppress(RuntimeError):  # whoever held the store may have left
            self._store.set(f"sign/{self._process}", _DONE)

    def fail(self, why: str) -> None:
        """Tell the others that this process fails; the first verdict stays."""
        self._over.set()
        self._thread.join()
        with suppress(RuntimeError):
            self._store.compare_set("verdict", "", f"{self.name} stopped: {why}")
        self._linger()

    def verdict(self) -> str:
        """Wait for what became of the others, "" if nothing is found out: for a process that could not reach one."""
        self.hand_over()
        last = time.monotonic() + self._patience + 3 * _EVERY
        found = ""
        while not found and time.monotonic() < last:
            time.sleep(_EVERY / 4)
            try:
                found = self._verdict()
            except RuntimeError:
                found = "the process that holds the store of this team has left; what it said last tells why"
        self._linger()
        return found

    def _linger(self) -> None:
        """Leave late where the others may still read from a store that is in this process."""
        if self._process == 0:
            time.sleep(2 * _EVERY)

    def _live(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                self._count += 1
                self._store.set(f"sign/{self._process}", str(self._count))
                self._look()
                found = self._verdict()
            except Exception as error:  # the store is gone, and whoever held it
                found = f"the store of this team cannot be reached any more: {error}"
            if found and not self._caught.is_set():
                print(f"error: {found}", file=sys.stderr, flush=True)
                os._exit(1)

    def _look(self) -> None:
        """Hold the neighbour's sign against the last one seen.

        Silence is counted in looks, not by a clock: a pause of this process, or of all, accuses nobody.
        """
        key = f"sign/{self._neighbour}"
        sign = self._store.get(key) if self._store.check([key]) else b""
        self._silent = self._silent + 1 if sign == self._sign else 0
        self._sign, silence = sign, self._silent * _EVERY
        if sign != _DONE.encode() and silence > self._patience:
            name = self._store.get(f"name/{self._neighbour}").decode()
            self._store.compare_set("verdict", "", f"{name} has given no sign of life for {silence:.0f} seconds")

    def _verdict(self) -> str:
        found: str = self._store.get("verdict").decode() if self._store.check(["verdict"]) else ""
        return found
