"""The processes that train one model together, as the loop sees them: shares of a batch, sums, one clipping.

The loop is written once, for one process (`Alone`) or many (`Crew` in crew.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from llamero.training.data.batch import Batch
from llamero.training.team.layout import Layout


class Team(Protocol):
    """What one process knows of the others. All processes call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Which share of a batch is this process's, from 0."""
        ...

    @property
    def size(self) -> int:
        """Into how many shares a batch is cut; several processes have the same where a model is cut as well."""
        ...

    @property
    def process(self) -> int:
        """Which of all processes this is, from 0."""
        ...

    @property
    def processes(self) -> int:
        """How many there are."""
        ...

    @property
    def layout(self) -> Layout:
        """How the work is shared."""
        ...

    @property
    def device(self) -> str:
        """Where this process computes, such as "cuda:1"."""
        ...

    @property
    def lead(self) -> bool:
        """Whether this process writes journals and speaks for all; process 0 does."""
        ...

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch."""
        ...

    def total(self, value: float) -> float:
        """The sum of a value over all shares, the same number on all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process, the same answer on all."""
        ...

    def clip(self, parameters: Mapping[str, Tensor], limit: float) -> float:
        """Scale all gradients down to a joint norm of at most `limit`; return the norm before."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a parameter of which this process may hold a part; detached."""
        ...

    def exchange(self, text: str) -> list[str]:
        """The texts of all processes, in order; for the one thread that saves checkpoints, whatever others do."""
        ...

    def barrier(self) -> None:
        """Wait until all processes are here."""
        ...


@dataclass(frozen=True)
class Alone:
    """A team of one process."""

    rank: int = 0
    size: int = 1
    process: int = 0
    processes: int = 1
    layout: Layout = field(default_factory=Layout)
    device: str = "cpu"
    lead: bool = True

    def share(self, batch: Batch) -> Batch:
        return batch

    def total(self, value: float) -> float:
        return value

    def any(self, flag: bool) -> bool:
        return flag

    def clip(self, parameters: Mapping[str, Tensor], limit: float) -> float:
        return torch.nn.utils.clip_grad_norm_(parameters.values(), limit).item()

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.detach()

    def exchange(self, text: str) -> list[str]:
        return [text]

    def barrier(self) -> None:
        return
