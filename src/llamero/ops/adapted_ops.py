"""Low-rank changes to matrices (LoRA), each for some rows of a step: a thin layer over any implementation.

An adapter changes a matrix w (out, in) to w + b @ a, with a (rank, in) and b (out, rank). Here w stays as it is: the
rows that an adapter serves get x a^T b^T added to their products, so one step can serve several adapters, and none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from llamero.ops.protocol import A, Ops, W


@dataclass(frozen=True)
class LowRank(Generic[W]):
    """What an adapter adds to a matrix (out, in): b @ a; its scale is part of b (Hu et al. 2021, section 4.1)."""

    a: W  # (rank, in)
    b: W  # (out, rank)


@dataclass(frozen=True)
class Named(Generic[W]):
    """A matrix that adapters may change, with the name that their changes have."""

    name: str
    base: W


Changes: TypeAlias = Mapping[str, LowRank[W]]
"""An adapter's changes, by the names of the matrices."""


class AdaptedOps(Generic[A]):
    """Ops for one step whose products are changed by adapters.

    groups: the changes of each adapter and the rows of the step that it serves, None for all of them. A row is in one
    group at most. Only products differ from those of `ops`.
    """

    def __init__(self, ops: Ops[A, Any], groups: Sequence[tuple[Changes[Any], Sequence[int] | None]]) -> None:
        self._ops, self._groups = ops, groups
        self.name, self.weight, self.store, self.begin, self.numpy = (
            ops.name,
            ops.weight,
            ops.store,
            ops.begin,
            ops.numpy,
        )
        self.copy, self.embed, self.rms_norm = ops.copy, ops.embed, ops.rms_norm
        self.rope, self.attention = ops.rope, ops.attention
        self.swiglu, self.add, self.add_rows, self.take = ops.swiglu, ops.add, ops.add_rows, ops.take

    def matmul(self, x: A, *weights: Any) -> tuple[A, ...]:
        products = list(self._ops.matmul(x, *(w.base if isinstance(w, Named) else w for w in weights)))
        names = [w.name if isinstance(w, Named) else "" for w in weights]
        for changes, rows in self._groups:
            mine = [(place, changes[name]) for place, name in enumerate(names) if name in changes]
            if not mine:
                continue
            part = x if rows is None else self._ops.take(x, rows)
            narrow = self._ops.matmul(part, *(change.a for _, change in mine))  # (rows, rank) each
            for (place, change), low in zip(mine, narrow, strict=True):
                added = self._ops.matmul(low, change.b)[0]  # (rows, out)
                y = products[place]
                products[place] = self._ops.add(y, added) if rows is None else self._ops.add_rows(y, rows, added)
        return tuple(products)
