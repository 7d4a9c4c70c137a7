"""Low-rank changes to matrices (LoRA), each for some rows of a step: a thin layer over any implementation.

An adapter changes a matrix w (out, in) to w + b^T a, with a (rank, in) and b (rank, out). Here w stays as it is: the
rows that an adapter serves get x a^T b added to their products, so one step can serve several adapters, and none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from llamero.ops.protocol import A, Ops, W


@dataclass(frozen=True)
class LowRank(Generic[W]):
    """What an adapter adds to a matrix (out, in): b^T a; its scale is part of b (Hu et al. 2021, section 4.1)."""

    a: W  # (rank, in)
    b: W  # (rank, out), so that both are read row by row


@dataclass(frozen=True)
class Named(Generic[W]):
    """A matrix that adapters may change, with the name that their changes have."""

    name: str
    base: W


Changes: TypeAlias = Mapping[str, LowRank[W]]
"""An adapter's changes, by the names of the matrices."""


class AdaptedOps(Generic[A]):
    """Ops for one step whose products are changed by adapters.

    groups: the changes of each adapter and the rows of the step that it serves. A row is in one group at most. Only
    products differ from those of `ops`.
    """

    def __init__(self, ops: Ops[A, Any], groups: Sequence[tuple[Changes[Any], Sequence[int]]]) -> None:
        self._ops, self._groups = ops, groups
        self.name, self.weight, self.store, self.begin = ops.name, ops.weight, ops.store, ops.begin
        self.embed, self.rms_norm, self.rope, self.attention = ops.embed, ops.rms_norm, ops.rope, ops.attention
        self.swiglu, self.add, self.take, self.numpy = ops.swiglu, ops.add, ops.take, ops.numpy
        self.copy, self.add_low_rank = ops.copy, ops.add_low_rank

    def matmul(self, x: A, *weights: Any) -> tuple[A, ...]:
        products = self._ops.matmul(x, *(w.base if isinstance(w, Named) else w for w in weights))
        changes = [
            (place, rows, change.a, change.b)
            for place, weight in enumerate(weights)
            if isinstance(weight, Named)
            for mine, rows in self._groups
            if (change := mine.get(weight.name)) is not None
        ]
        if changes:
            self._ops.add_low_rank(x, products, changes)
        return products
