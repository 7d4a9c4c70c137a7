"""What an optimiser is told beside the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from llamero.errors import SettingError, nearest

Kind = Literal["adamw", "muon"]
Rounds = Literal["f32", "bf16"]


@dataclass(frozen=True)
class Constants:
    """What an optimiser needs beside the learning rate (LLaMA, section 2.3; epsilon: Llama 2, section 2.2)."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-5
    decay: float = 0.1
    clip: float = 1.0  # the largest norm of all gradients together
    kind: Kind = "adamw"
    rounds: Rounds = "f32"  # the type of Muon's products: bf16, as Jordan et al. have it, where it multiplies faster

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise SettingError(f"beta1 and beta2 must lie in [0, 1), got {self.beta1} and {self.beta2}")
        if not (0 < self.epsilon < math.inf and 0 <= self.decay < math.inf and self.clip > 0):  # nor NaN
            raise SettingError(
                f"epsilon ({self.epsilon}) and clip ({self.clip}) must be positive, decay ({self.decay}) not negative"
            )
        if self.kind not in get_args(Kind):
            raise SettingError(f"there is no optimiser {self.kind!r} ({nearest(self.kind, get_args(Kind))})")
        if self.rounds not in get_args(Rounds):
            raise SettingError(f"Muon has no rounds in {self.rounds!r} ({nearest(self.rounds, get_args(Rounds))})")
