"""How a training run looks on a terminal: its settings, a line now and then, and what happened between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import note, table, write
from llamero.training.listener import Listener
from llamero.training.loop import Report

_PAUSE = 5.0  # seconds between lines


class TrainingTerminal(Listener):
    """Lines on standard output; what a person should know, and progress, on stderr.

    A run goes on when nobody reads them any more.
    """

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._tokens, self._seconds, self._steps = 0, 0.0, 0

    @contextmanager
    def stage(self, title: str, unit: Any) -> Iterator[Callable[[int, int], None]]:
        with progress(title, unit) as bar:
            yield bar

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        self._steps = settings["settings"]["steps"]
        with suppress(BrokenPipeError):
            table(settings["settings"])
        if step:
            self.note(f"going on after step {step}")

    def step(self, report: Report) -> None:
        self._tokens += report.tokens
        self._seconds += report.seconds
        if time.monotonic() - self._said < _PAUSE and report.step != self._steps:
            return
        speed = self._tokens / self._seconds if self._seconds else 0.0
        self._write(
            f"step {report.step:6}/{self._steps}  loss {report.loss:.4f}  norm {report.norm:.2f}  "
            f"rate {report.rate:.2e}  {speed:,.0f} tokens/s\n"
        )
        self._said, self._tokens, self._seconds = time.monotonic(), 0, 0.0

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        if name == "validation":
            self._write(f"step {step:6}  held-out loss {values['loss']:.4f}, {values['bits_per_byte']:.4f} bits/byte\n")
        elif name == "sample":
            self._write(f"step {step:6}  sample: {values['text']}\n")
        elif name == "skipped":
            shown = ", ".join(values["documents"][:3])
            self._write(f"step {step:6}  skipped: {values['reason']}; the batch held {shown}, ... (all in log.jsonl)\n")

    def note(self, text: str) -> None:
        with suppress(BrokenPipeError):
            note(text)

    def _write(self, text: str) -> None:
        with suppress(BrokenPipeError):
            write(text)
