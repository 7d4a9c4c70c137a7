"""AdamW with the constants of the LLaMA papers, decaying matrices only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llamero.errors import SettingError


@dataclass(frozen=True)
class Constants:
    """What AdamW needs beside the learning rate (LLaMA, section 2.3; epsilon: Llama 2, section 2.2)."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-5
    decay: float = 0.1
    clip: float = 1.0  # the largest norm of all gradients together

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise SettingError(f"beta1 and beta2 must lie in [0, 1), got {self.beta1} and {self.beta2}")
        if self.epsilon <= 0 or self.decay < 0 or self.clip <= 0:
            raise SettingError(
                f"epsilon ({self.epsilon}) and clip ({self.clip}) must be positive, decay ({self.decay}) not negative"
            )


def adamw(parameters: Mapping[str, Tensor], constants: Constants) -> torch.optim.AdamW:
    """The optimiser of these parameters; its learning rate is set before every step.

    Norms (vectors) are not decayed: a decayed scale would shrink every activation behind it.
    """
    matrices = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters.values() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": constants.decay}, {"params": vectors, "weight_decay": 0.0}]
    betas = (constants.beta1, constants.beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=constants.epsilon, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
