"""Progress bars on the terminal, for work that takes longer than a moment. Nothing is shown where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Literal

Unit = Literal["bytes", "tokens", "runs", "checkpoints"]

_PATIENCE = 0.5  # seconds before a bar appears


@contextmanager
def progress(title: str, unit: Unit) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, total); a bar appears on stderr, if that is a terminal, and goes at the end."""
    bar = _Bar(title, unit)
    try:
        yield bar.show if sys.stderr.isatty() else _ignore
    finally:
        bar.close()


class _Bar:
    def __init__(self, title: str, unit: Unit) -> None:
        self._title, self._unit = title, unit
        self._began = monotonic()
        self._rich: Any = None
        self._task: Any = None

    def show(self, done: int, total: int) -> None:
        if self._rich is None:
            if monotonic() - self._began < _PATIENCE or done >= total:
                return
            self._rich = _rich_bar(self._unit)
            self._task = self._rich.add_task(self._title, total=total)
            self._rich.start()
        self._rich.update(self._task, completed=done, total=total)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()


def _rich_bar(unit: Unit) -> Any:
    # Only here: most work is over before rich would be imported.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
    )
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _ignore(_done: int, _total: int) -> None:
    pass
