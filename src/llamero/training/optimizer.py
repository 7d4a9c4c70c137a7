"""The optimiser of a run: AdamW with the constants of the LLaMA papers, decaying matrices only, or Muon on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from llamero.training.constants import Constants as Constants
from llamero.training.muon import Muon


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
        rounds = torch.bfloat16 if constants.rounds == "bf16" else torch.float32
        return Muon(groups, rounds, lr=0.0, betas=betas, eps=constants.epsilon, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=constants.epsilon, fused=True)


def set_rate(chosen: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, for all parameters."""
    for group in chosen.param_groups:
        group["lr"] = rate
