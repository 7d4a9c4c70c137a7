"""Who hears of a run that `llamero train` started: a view on the terminal, the forecast, trackers."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from llamero.interfaces.cli.live import LiveTerminal
from llamero.interfaces.cli.training import TrainingTerminal
from llamero.interfaces.forecasting import Forecasting
from llamero.interfaces.trackers import TensorBoard, WeightsAndBiases
from llamero.training.listener import Listener
from llamero.training.loop import Report
from llamero.training.planning.gauge import Gauge, hardware_here
from llamero.training.team.layout import Layout


class Several(Listener):
    """Tells all of what it hears; the first shows the work that comes before a run."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = listeners

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        with self._all[0].stage(title, unit) as told:
            yield told

    def ready(self, settings: Mapping[str, Any]) -> None:
        for listener in self._all:
            listener.ready(settings)

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        for listener in self._all:
            listener.begin(settings, step)

    def step(self, report: Report) -> None:
        for listener in self._all:
            listener.step(report)

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        for listener in self._all:
            listener.event(name, step, values)

    def note(self, text: str) -> None:
        for listener in self._all:
            listener.note(text)


@contextmanager
def watching(
    out: Path, device: str, layout: str | None, plain: bool, tensorboard: bool, wandb: str | None
) -> Iterator[Listener]:
    """The listeners of a run: a live view where standard output is a terminal, else lines. They end with the block.

    Nothing is measured or opened before the run begins, for of several processes one alone is told of it.
    """
    gauge, hardware = Gauge(device), cache(lambda: hardware_here(device))
    devices = int(os.environ.get("WORLD_SIZE", "1"))  # as torchrun says
    with ExitStack() as stack:
        trackers: list[Listener] = []
        if tensorboard:
            trackers.append(stack.enter_context(closing(TensorBoard(out))))
        if wandb:
            trackers.append(stack.enter_context(closing(WeightsAndBiases(out, wandb))))
        terminal: Listener = TrainingTerminal()
        if not plain and sys.stdout.isatty():
            terminal = stack.enter_context(closing(LiveTerminal(gauge.peak, hardware, devices)))
        shape = Layout.parse(layout) if layout else Layout() if devices == 1 else None
        if shape is not None:
            trackers.append(Forecasting(hardware, shape, gauge.peak, terminal.note))
        stack.enter_context(_warnings_as_notes(terminal))
        yield Several([terminal, *trackers])


@contextmanager
def _warnings_as_notes(terminal: Listener) -> Iterator[None]:
    """Show what Python would show with a line of our code as what it is to the one who trains: a remark."""

    def show(message: Warning | str, *_where: Any, **_more: Any) -> None:
        terminal.note(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
