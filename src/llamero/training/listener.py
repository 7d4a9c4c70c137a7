"""Who hears how a run goes: a terminal, a notebook, a test. By itself it keeps silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llamero.training.loop import Report


class Listener:
    """What is told of a run, by the process that leads. Override what you want to hear."""

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        """Work of more than a moment, counted in `unit`: a function to call with (done, in all)."""
        del title, unit
        yield lambda _done, _total: None

    def ready(self, settings: Mapping[str, Any]) -> None:
        """The data is there; next a model of these settings takes its memory."""

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        """Training begins after `step` steps, with these settings."""

    def step(self, report: Report) -> None:
        """A step was taken."""

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        """Something happened after a step: "validation", "sample", "skipped", as in the journal."""

    def note(self, text: str) -> None:
        """Something a person should read."""
