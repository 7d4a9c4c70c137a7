"""A polite end: the first Ctrl-C or SIGTERM asks the run to save and leave after the step, the second ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, calling it says whether one of the signals came; `tell` hears of the first at once.

    Signals belong to the main thread; in any other nothing is caught.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self._tell = tell
        self._before: dict[signal.Signals, Any] = {}
        self.came = ""  # the signal's name

    def __call__(self) -> bool:
        return bool(self.came)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # not under nohup
            self._before = {number: signal.signal(number, self._hear) for number in heeded}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.came = signal.Signals(number).name
        self._restore()  # a second one does what it always does
        if self._tell is not None:
            self._tell(self.came)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
