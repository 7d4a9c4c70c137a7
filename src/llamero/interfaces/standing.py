"""How a training run stands: what a view of it shows, kept small however long the run is."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from llamero.training.listener import Listener
from llamero.training.loop import Report
from llamero.training.planning.forecast import recipe_of
from llamero.training.planning.hardware import Hardware
from llamero.training.planning.operations import training_operations
from llamero.training.recipe import Recipe

_POINTS = 400  # of the curve that are kept at most
_RECENT = 20  # steps whose speed is told
_SPAN = 50  # steps over which the loss is averaged


class Standing(Listener):
    """Hears of a run and keeps its figures.

    hardware: tells of one of so many devices that it runs on, where they are known. now: a clock in seconds.
    """

    def __init__(
        self,
        hardware: Callable[[], Hardware | None] = lambda: None,
        devices: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._devices, self._now = hardware, devices, now
        self._hardware: Hardware | None = None
        self.recipe: Recipe | None = None
        self.last: Report | None = None
        self.smooth = math.nan
        self.held_out: tuple[int, float] | None = None  # step and loss
        self.sample: tuple[int, str] | None = None  # step and text
        self.skipped = 0
        self.curve: list[tuple[float, float]] = []  # (step, loss), several steps together in a long run
        self._together, self._part = 1, list[tuple[float, float]]()
        self._recent: deque[Report] = deque(maxlen=_RECENT)
        self._weight, self._began, self._first = 0.0, now(), 0

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        self.recipe, self._hardware = recipe_of(settings["settings"]), self._find()
        self._began, self._first = self._now(), step

    def step(self, report: Report) -> None:
        self.last = report
        self._recent.append(report)
        if report.skipped:
            self.skipped += 1
        if math.isfinite(report.loss):
            self._add(report.step, report.loss)

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        if name == "validation":
            self.held_out = (step, float(values["loss"]))
        elif name == "sample":
            self.sample = (step, str(values["text"]))

    def _add(self, step: int, loss: float) -> None:
        keep = 1 - 2 / (_SPAN + 1)
        before = self.smooth * self._weight if self._weight else 0.0
        self._weight = keep * self._weight + 1 - keep
        self.smooth = (keep * before + (1 - keep) * loss) / self._weight
        self._part.append((step, loss))
        if len(self._part) < self._together:
            return
        self.curve.append(_mean(self._part))
        self._part.clear()
        if len(self.curve) == _POINTS:  # half as many, of twice as many steps each
            self.curve = [_mean(self.curve[at : at + 2]) for at in range(0, _POINTS, 2)]
            self._together *= 2

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.recipe.steps if self.recipe else 0

    @property
    def speed(self) -> float:
        """Tokens a second in the last steps; 0 before there are any."""
        seconds = sum(report.seconds for report in self._recent)
        return sum(report.tokens for report in self._recent) / seconds if seconds else 0.0

    @property
    def share(self) -> float | None:
        """Of the peak that the last steps reached; None where the peak is not known."""
        if self.recipe is None or self._hardware is None or not self.speed:
            return None
        peak = self._devices * self._hardware.peak["bf16" if self.recipe.dtype == "bf16" else "f32"]
        return self.speed * training_operations(self.recipe.model, self.recipe.model.context) / peak

    @property
    def left(self) -> float | None:
        """Seconds to the end at the pace since the beginning, validation and saving included; None at first."""
        if self.last is None or self.last.step <= self._first:
            return None
        pace = (self._now() - self._began) / (self.last.step - self._first)
        return pace * (self.steps - self.last.step)


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The last step, and the mean of the losses."""
    return points[-1][0], sum(loss for _, loss in points) / len(points)
