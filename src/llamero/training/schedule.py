"""The learning rate of each step: a pure function of the step and a stored horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from llamero.errors import SettingError


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up to `peak`, then a cosine down to `floor` of it (LLaMA, section 2.3: 10 %).

    peak: learning rate. steps: the horizon, warm-up included. warmup: steps until the peak.
    """

    peak: float
    steps: int
    warmup: int
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise SettingError(f"the peak learning rate must be positive, got {self.peak}")
        if not 0 <= self.warmup <= self.steps:
            raise SettingError(f"warm-up ({self.warmup}) must lie between 0 and the number of steps ({self.steps})")
        if not 0 <= self.floor <= 1:
            raise SettingError(f"the floor is a share of the peak from 0 to 1, got {self.floor}")

    def at(self, step: int) -> float:
        """The rate of step 0, 1, ...; beyond the horizon it stays at the floor."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Plateau:
    """Linear warm-up to `peak`, level until the last `decay` steps, which go down to `floor` of it in a line.

    Until the descent begins the horizon may still be moved (Hu et al. 2024, MiniCPM, section 4).
    """

    peak: float
    steps: int
    warmup: int
    decay: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        Cosine(self.peak, self.steps, self.warmup, self.floor)  # the same rules
        if not 0 <= self.decay <= self.steps - self.warmup:
            raise SettingError(f"{self.warmup} steps up and {self.decay} down do not fit in {self.steps}")

    def at(self, step: int) -> float:
        """The rate of step 0, 1, ...; beyond the horizon it stays at the floor."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        left = min(max(self.steps - step, 0) / max(self.decay, 1), 1.0)
        return self.peak * (self.floor + (1 - self.floor) * left)


Schedule: TypeAlias = Cosine | Plateau


def linear(peak: float, steps: int, warmup: int, floor: float = 0.0) -> Plateau:
    """Linear warm-up to `peak`, then a line down to `floor` of it: a plateau of no length."""
    return Plateau(peak, steps, warmup, decay=max(steps - warmup, 0), floor=floor)
