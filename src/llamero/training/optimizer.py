"""The optimiser of a run: AdamW with the constants of the LLaMA papers, decaying matrices only, or Muon on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from llamero.errors import SettingError, nearest
from llamero.training.muon import Muon

Kind = Literal["adamw", "muon"]


@dataclass(frozen=True)
class Constants:
    """What an optimiser needs beside the learning rate (LLaMA, section 2.3; epsilon: Llama 2, section 2.2)."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-5
    decay: float = 0.1
    clip: float = 1.0  # the largest norm of all gradients together
    kind: Kind = "adamw"

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise SettingError(f"beta1 and beta2 must lie in [0, 1), got {self.beta1} and {self.beta2}")
        if self.epsilon <= 0 or self.decay < 0 or self.clip <= 0:
            raise SettingError(
                f"epsilon ({self.epsilon}) and clip ({self.clip}) must be positive, decay ({self.decay}) not negative"
            )
        if self.kind not in get_args(Kind):
            raise SettingError(f"there is no optimiser {self.kind!r} ({nearest(self.kind, get_args(Kind))})")


def optimizer(parameters: Mapping[str, Tensor], constants: Constants) -> torch.optim.AdamW:
    """The optimiser of these parameters; its learning rate is set before every step.

    Norms (vectors) are not decayed: a decayed scale would shrink every activation behind it. Muon takes the matrices
    of the layers; embedding, output and norms stay with AdamW.
    """
    inner = {name for name, value in parameters.items() if value.ndim > 1 and name.startswith("layers.")}
    outer = {name for name, value in parameters.items() if value.ndim > 1} - inner
    groups: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in parameters if name in names], "weight_decay": decay, "muon": turned}
        for names, decay, turned in (
            (inner, constants.decay, True),
            (outer, constants.decay, False),
            (parameters.keys() - inner - outer, 0.0, False),
        )
    ]
    betas = (constants.beta1, constants.beta2)
    if constants.kind == "muon":
        return Muon(groups, lr=0.0, betas=betas, eps=constants.epsilon, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=constants.epsilon, fused=True)


def set_rate(chosen: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, for all parameters."""
    for group in chosen.param_groups:
        group["lr"] = rate
