"""The one training loop: batch, loss and gradients, clip, step, report, save; and going on after a stop.

What is learnt is the objective's matter (pretraining, tuning, rewards); where batches come from is the batches'.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from llamero.errors import SettingError, WeightsError, nearest
from llamero.formats.lineage.record import Lineage
from llamero.training.checkpoints.manifest import State
from llamero.training.checkpoints.saver import Keep, Saver
from llamero.training.data.batch import Batch, Source
from llamero.training.guard import Guard, Limits
from llamero.training.optimizer import Constants, optimizer, set_rate
from llamero.training.parameters import Parameters
from llamero.training.schedule import Schedule
from llamero.training.team.team import Alone, Team


class Objective(Protocol):
    """What is learnt from a batch."""

    def accumulate(self, batch: Batch, divisor: float) -> float:
        """Add the gradients of (sum of losses / divisor) to the parameters; return the sum of losses."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a run goes. `micro`, sequences differentiated at once, changes memory and speed but not the result.

    also: what else the result depends on, by name, and must be the same for a run to go on.
    """

    schedule: Schedule
    constants: Constants = field(default_factory=Constants)
    limits: Limits = field(default_factory=Limits)
    micro: int = 8
    save_every: int = 0  # steps; 0 saves at the end only
    keep: Keep = field(default_factory=Keep)
    also: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.micro < 1 or self.save_every < 0:
            raise SettingError(f"micro ({self.micro}) must be positive, save_every ({self.save_every}) not negative")

    @property
    def parts(self) -> dict[str, Any]:
        """The settings that are groups of settings, by name."""
        return {"schedule": self.schedule, "constants": self.constants, "limits": self.limits}


@dataclass(frozen=True)
class Report:
    """One step as it went. loss: nats per counted token. norm: of all gradients, before clipping."""

    step: int  # 1 is the first
    loss: float
    norm: float
    rate: float
    tokens: int
    seconds: float
    skipped: str = ""  # why the parameters were left as they are; "" where they were not


class Run:
    """Parameters on their way through a schedule.

    With a `folder` the run is saved there, and one that was saved there before is gone on with, exactly; a changed
    setting or other data is refused, except those settings named in `changed` (such as "schedule.steps"). With a
    `team` of several processes each does its share of every batch. made_by: the lineage that its checkpoints carry on.
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
        made_by: Lineage | None = None,
    ) -> None:
        self.parameters, self.objective, self.batches, self.settings = parameters, objective, batches, settings
        self.team = team or Alone()
        self.optimizer = optimizer(parameters, settings.constants)
        self.guard = Guard(settings.limits)
        self.step, self.updates = 0, 0
        self.saver = (
            None if folder is None else Saver(folder / "checkpoints", self.team, settings.keep, made_by=made_by)
        )
        saved = None if self.saver is None else self.saver.newest()
        then = self._defaults | (saved.state.origin if saved is not None else {})
        allowed = {key for name in changed for key in _named(name, then | self.origin)}
        if saved is not None:
            _check_same(then, self.origin, allowed, saved.path)
            saved.restore(parameters, self.optimizer)
            self.step, self.updates = saved.state.step, saved.state.updates
            self.guard.restore(saved.state.memory.get("guard", []))

    @property
    def origin(self) -> dict[str, Any]:
        """What the result depends on, flat: settings and the data's fingerprint."""
        settings = self.settings
        values = {
            f"{part}.{key}": value for part, held in settings.parts.items() for key, value in asdict(held).items()
        }
        return values | {"schedule": type(settings.schedule).__name__, **settings.also} | self.batches.origin

    @property
    def _defaults(self) -> dict[str, Any]:
        """What a checkpoint that is older than a setting was made with: the setting's default."""
        return {
            f"{part}.{item.name}": item.default
            for part, held in self.settings.parts.items()
            for item in fields(held)
            if item.default is not MISSING
        }

    def train(
        self,
        report: Callable[[Report], None] | None = None,
        until: int | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        """Go on to step `until`, or to the end of the schedule; save on the way and at the end.

        stop: asked after every step whether to save and leave; one process of a team that says so is enough. Raises
        WeightsError when the guard's patience is at its end.
        """
        last = self.settings.schedule.steps if until is None else min(until, self.settings.schedule.steps)
        try:
            leave = False
            while self.step < last and not leave:
                leave = self._go_on(last, report, stop)
        finally:
            if self.saver is not None:
                self.saver.wait()

    def _go_on(self, last: int, report: Callable[[Report], None] | None, stop: Callable[[], bool] | None) -> bool:
        """A step and what follows it; whether to leave."""
        done = self.advance()
        if self.saver is not None:
            self.saver.check()
        if report is not None:
            report(done)
        if self.guard.skips == self.settings.limits.patience:
            raise WeightsError(
                f"step {self.step}: {self.guard.skips} steps in a row were skipped, the last because "
                f"{done.skipped}; remove the newest checkpoints, to go on from an earlier one with a lower rate"
            )
        leave = stop is not None and self.team.any(stop())
        every = self.settings.save_every
        if self.step == last or leave or (every and self.step % every == 0):
            self.save()
        return leave

    def advance(self) -> Report:
        """One step. What the guard objects to changes no parameter, and the step counts all the same."""
        began = time.perf_counter()
        batch = self.batches.at(self.step)
        tokens = float(batch.counts.sum())
        loss = math.nan
        if tokens:  # the mean is over all counted tokens of the step, however it is split and shared out
            parts = self.team.share(batch).split(self.settings.micro)
            loss = self.team.total(sum(self.objective.accumulate(part, tokens) for part in parts)) / tokens
        norm = self.team.clip(self.parameters, self.settings.constants.clip)
        rate = self.settings.schedule.at(self.step)
        skipped = self.guard.judge(loss, norm)
        if not skipped:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
            self.updates += 1
        self.optimizer.zero_grad()
        self.step += 1
        return Report(self.step, loss, norm, rate, int(tokens), time.perf_counter() - began, skipped)

    def save(self) -> None:
        """Save the run, if it has a folder; it is written in the background."""
        if self.saver is not None:
            state = State(self.step, self.updates, self.origin, {"guard": self.guard.state})
            self.saver.save(state, self.parameters, self.optimizer)


def _named(name: str, origin: Mapping[str, Any]) -> list[str]:
    """The settings that a name means: "steps" is short for "schedule.steps"."""
    found = [key for key in origin if key == name or key.endswith(f".{name}")]
    if not found:
        raise SettingError(f"{name!r} is no setting of this run that could change ({nearest(name, origin)})")
    return found


def _check_same(then: dict[str, Any], now: dict[str, Any], changed: Collection[str], folder: Path) -> None:
    for key in sorted(then.keys() | now.keys()):
        if key not in changed and then.get(key) != now.get(key):
            raise SettingError(
                f"{folder} holds a run with {key} {then.get(key)!r}, and {now.get(key)!r} is asked for now; "
                f"ask for the same, name another folder, or let it change with `--allow-change {key}`"
            )
