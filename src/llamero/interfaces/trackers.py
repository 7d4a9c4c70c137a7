"""Runs told to TensorBoard and Weights & Biases, where they are installed; no step waits for them."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamero.errors import SettingError
from llamero.training.listener import Listener
from llamero.training.loop import Report


def _figures(report: Report) -> dict[str, float]:
    values = {
        "train/loss": report.loss,
        "train/norm": report.norm,
        "train/rate": report.rate,
        "train/tokens_per_second": report.tokens / report.seconds if report.seconds else math.nan,
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


class TensorBoard(Listener):
    """Writes RUN/tensorboard/; watch it with `tensorboard --logdir RUN`.

    A run that goes on hides what an earlier process wrote of later steps. Raises SettingError without the library.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError as error:
            raise SettingError(f'--tensorboard needs {error.name}: pip install "llamero[track]"') from error
        self._events, self._summaries, self._open = event_pb2, summary_pb2, EventFileWriter
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        del settings
        self._writer = self._open(str(self._folder))
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(step=step + 1, session_log=start))  # what follows is told anew

    def step(self, report: Report) -> None:
        self._tell(report.step, _figures(report))

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        if name == "validation":
            self._tell(step, {"held_out/loss": values["loss"]})

    def _tell(self, step: int, values: Mapping[str, float]) -> None:
        told = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        summary = self._summaries.Summary(value=told)
        self._writer.add_event(self._events.Event(step=step, summary=summary))

    def close(self) -> None:
        """Write what is still waiting."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases(Listener):
    """Tells a run to Weights & Biases, in the mode that WANDB_MODE says (online, offline).

    Its identity lies in RUN/wandb/, so that a run that goes on stays one. That service keeps the steps it has: those
    that are taken again after a kill are not told twice. Raises SettingError without the library.
    """

    def __init__(self, folder: Path, project: str) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise SettingError(f'--wandb needs {error.name}: pip install "llamero[track]"') from error
        self._wandb, self._folder, self._project = wandb, folder, project
        self._run: Any = None

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        del step
        place = self._folder / "wandb" / "id"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.write_text(uuid.uuid4().hex[:8])
        self._run = self._wandb.init(
            project=self._project,
            name=self._folder.resolve().name,
            id=place.read_text().strip(),
            resume="allow",
            dir=str(self._folder),
            config=dict(settings),
        )

    def step(self, report: Report) -> None:
        self._run.log(_figures(report), step=report.step)

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        if name == "validation":
            self._run.log({"held_out/loss": values["loss"]}, step=step)

    def close(self) -> None:
        """Send what is still waiting."""
        if self._run is not None:
            self._run.finish()
