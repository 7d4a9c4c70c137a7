"""Muon: matrices of the layers step along an orthogonal matrix near their momentum; all else is AdamW's.

A gradient's few large directions drown the many small ones; made orthogonal, all of them move alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

_BETA = 0.95
_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # pulls singular values near one in five rounds (Jordan et al. 2024)
_SIZE = 0.2  # root mean square of an update, as AdamW's are (Liu et al. 2025, section 2.2)


class Muon(torch.optim.AdamW):
    """AdamW with Muon for those parameter groups that say `"muon": True`; rates and decay mean the same for both.

    The momentum is kept as `exp_avg`, so a run may change from AdamW to Muon and take its momentum along.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], rounds: torch.dtype = torch.float32, **options: Any) -> None:
        """rounds: the type of the products that make an update orthogonal."""
        super().__init__(groups, **options)
        self._rounds = rounds

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; the gradients of Muon's are used up."""
        for group in self.param_groups:
            for parameter in group["params"] if group["muon"] else ():
                if parameter.grad is not None:
                    self._turn(parameter, group["lr"], group["weight_decay"])
                    parameter.grad = None  # so that AdamW passes it by
        super().step(closure)

    def _turn(self, parameter: Tensor, rate: float, decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(parameter)
        momentum = state["exp_avg"].lerp_(gradient, 1 - _BETA)
        update = orthogonal(gradient.lerp(momentum, _BETA), self._rounds)  # Nesterov's look ahead
        parameter.mul_(1 - rate * decay)
        parameter.add_(update, alpha=-rate * _SIZE * max(parameter.shape) ** 0.5)


def moments(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Each parameter with the names of what the optimiser remembers of its gradients; Muon has no second moment."""
    for group in optimizer.param_groups:
        first = isinstance(optimizer, Muon) and group["muon"]
        for parameter in group["params"]:
            yield parameter, ("exp_avg",) if first else ("exp_avg", "exp_avg_sq")


def orthogonal(matrix: Tensor, rounds: torch.dtype = torch.float32) -> Tensor:
    """U V' of the matrix's singular value decomposition U S V', roughly: singular values come out near one.

    Five Newton-Schulz rounds of an odd polynomial of fifth degree (Jordan et al. 2024), products only, in `rounds`.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x: Tensor = matrix if wide else matrix.T
    x = (x / (torch.linalg.vector_norm(x) + 1e-7)).to(rounds)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.T
        polynomial = torch.addmm(square, square, square, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    x = x.to(matrix.dtype)
    return x if wide else x.T
