"""The one training loop: batch, loss and gradients, clip, step, report, save; and going on after a stop.

What is learnt is the objective's matter (pretraining, tuning, rewards); where batches come from is the batches'.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llamero.errors import SettingError, WeightsError, nearest
from llamero.training import checkpoint
from llamero.training.batch import Batch, Source
from llamero.training.optimizer import Constants, optimizer, set_rate
from llamero.training.parameters import Parameters
from llamero.training.schedule import Schedule
from llamero.training.team import Alone, Team

_PATIENCE = 10  # steps in a row that may be skipped for want of finite gradients


class Objective(Protocol):
    """What is learnt from a batch."""

    def accumulate(self, batch: Batch, divisor: float) -> float:
        """Add the gradients of (sum of losses / divisor) to the parameters; return the sum of losses."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a run goes. `micro`, sequences differentiated at once, changes memory and speed but not the result."""

    schedule: Schedule
    constants: Constants = field(default_factory=Constants)
    micro: int = 8
    save_every: int = 0  # steps; 0 saves at the end only

    def __post_init__(self) -> None:
        if self.micro < 1 or self.save_every < 0:
            raise SettingError(f"micro ({self.micro}) must be positive, save_every ({self.save_every}) not negative")


@dataclass(frozen=True)
class Report:
    """One step as it went. loss: nats per counted token. norm: of all gradients, before clipping."""

    step: int  # 1 is the first
    loss: float
    norm: float
    rate: float
    tokens: int
    seconds: float
    skipped: bool


class Run:
    """Parameters on their way through a schedule.

    With a `folder` the run is saved there, and one that was saved there before is gone on with, exactly; a changed
    setting or other data is refused, except those settings named in `changed` (such as "schedule.steps"). With a
    `team` of several processes each does its share of every batch.
    """

    def __init__(
        self,
        parameters: Parameters,
        objective: Objective,
        batches: Source,
        settings: Settings,
        folder: Path | None = None,
        changed: Collection[str] = (),
        team: Team | None = None,
    ) -> None:
        self.parameters, self.objective, self.batches, self.settings = parameters, objective, batches, settings
        self.folder, self.team = folder, team or Alone()
        self.optimizer = optimizer(parameters, settings.constants)
        self.step, self.updates, self._skips = 0, 0, 0
        unknown = set(changed) - self.origin.keys()
        if unknown:
            name = min(unknown)
            raise SettingError(f"{name!r} is no setting of this run that could change ({nearest(name, self.origin)})")
        if folder is not None and checkpoint.exists(folder):
            state = checkpoint.restore(folder, parameters, self.optimizer)
            _check_same(state.origin, self.origin, changed, folder)
            self.step, self.updates = state.step, state.updates

    @property
    def origin(self) -> dict[str, Any]:
        """What the result depends on, flat: settings and the data's fingerprint."""
        schedule = self.settings.schedule
        values: dict[str, Any] = {f"schedule.{key}": value for key, value in asdict(schedule).items()}
        values |= {f"constants.{key}": value for key, value in asdict(self.settings.constants).items()}
        return values | {"schedule": type(schedule).__name__} | self.batches.origin

    def train(self, report: Callable[[Report], None] | None = None, until: int | None = None) -> None:
        """Go on to step `until`, or to the end of the schedule; save on the way and at the end."""
        last = self.settings.schedule.steps if until is None else min(until, self.settings.schedule.steps)
        while self.step < last:
            done = self.advance()
            if report is not None:
                report(done)
            every = self.settings.save_every
            if self.step == last or (every and self.step % every == 0):
                self.save()

    def advance(self) -> Report:
        """One step. Gradients that are not finite are thrown away and the parameters kept.

        Raises WeightsError when that happens ten times in a row.
        """
        began = time.perf_counter()
        batch = self.batches.at(self.step)
        tokens = float(batch.counts.sum())
        loss = 0.0
        if tokens:  # the mean is over all counted tokens of the step, however it is split and shared out
            parts = self.team.share(batch).split(self.settings.micro)
            loss = self.team.total(sum(self.objective.accumulate(part, tokens) for part in parts)) / tokens
        norm = self.team.clip(self.parameters, self.settings.constants.clip)
        rate = self.settings.schedule.at(self.step)
        sound = tokens > 0 and math.isfinite(loss) and math.isfinite(norm)
        if sound:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad()
        self.step += 1
        self._skips = 0 if sound else self._skips + 1
        if self._skips == _PATIENCE:
            raise WeightsError(
                f"step {self.step}: {_PATIENCE} steps in a row had no finite loss and gradients "
                f"(loss {loss}, norm {norm}); go on from an earlier checkpoint with a lower rate"
            )
        return Report(self.step, loss, norm, rate, int(tokens), time.perf_counter() - began, not sound)

    def save(self) -> None:
        """Save the run, if it has a folder."""
        if self.folder is not None:
            state = checkpoint.State(self.step, self.updates, self.origin)
            checkpoint.save(self.folder, state, self.parameters, self.optimizer)


def _check_same(then: dict[str, Any], now: dict[str, Any], changed: Collection[str], folder: Path) -> None:
    for key in sorted(then.keys() | now.keys()):
        if key not in changed and then.get(key) != now.get(key):
            raise SettingError(
                f"{folder} holds a run with {key} {then.get(key)!r}, and {now.get(key)!r} is asked for now; "
                f"ask for the same, name another folder, or allow {key!r} to change"
            )
