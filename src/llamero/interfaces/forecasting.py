"""Tells a person, once a run is under way, how it compares with what was planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llamero.training.listener import Listener
from llamero.training.loop import Report
from llamero.training.planning.forecast import beside, forecast, recipe_of
from llamero.training.planning.hardware import Hardware
from llamero.training.planning.planner import Plan
from llamero.training.team.layout import Layout

_WARM = 2  # steps that are not measured
_LEAST = 10  # steps, and
_SECONDS = 10.0  # that are measured at least


class Forecasting(Listener):
    """Says one line through `tell` after some steps.

    hardware: tells of one of the devices, None where it is not known. memory: bytes taken at most, 0 where unknown.
    """

    def __init__(
        self,
        hardware: Callable[[], Hardware | None],
        layout: Layout,
        memory: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._hardware, self._layout, self._memory, self._tell = hardware, layout, memory, tell
        self._plan: Plan | None = None
        self._steps = self._tokens = 0
        self._seconds = 0.0

    def ready(self, settings: Mapping[str, Any]) -> None:
        hardware = self._hardware()
        if hardware is None:
            return
        self._plan = forecast(recipe_of(settings["settings"]), hardware, self._layout)
        needed, there = self._plan.memory.total, hardware.usable
        if needed > there:
            self._tell(
                f"this run may not fit: about {needed / 2**30:.3g} GiB are needed, {there / 2**30:.3g} can be used; "
                "a smaller --micro or --recompute 1 takes less"
            )

    def step(self, report: Report) -> None:
        self._steps += 1
        if self._plan is None or self._steps <= _WARM:
            return
        self._tokens += report.tokens
        self._seconds += report.seconds
        if self._steps >= _WARM + _LEAST and self._seconds >= _SECONDS:
            self._tell(beside(self._plan, self._tokens / self._seconds, self._memory()))
            self._plan = None
