"""The operations of a process that holds only parts of the matrices (tensor) and of the sequences (context).

Activations are plain tensors. With `tensor`, matrices are DTensors cut by rows or columns, and a product brings what is
missing from the neighbours (Shoeybi et al. 2019). With `context`, the tokens of a step are cut into twice as many parts
as there are neighbours, of which each takes an early and a late one; only attention needs the others' keys and values,
and gathers them (Llama 3, section 3.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.nn import functional

from llamero.errors import SettingError
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps, TorchStep, attend


@dataclass(frozen=True)
class Sight:
    """A run of this process's tokens in one document, and the keys that it sees: up to its own last token."""

    queries: slice  # of this process's tokens
    keys: slice  # of all tokens


@dataclass(frozen=True)
class ContextStep(TorchStep):
    """Rotations of this process's tokens alone, and what they see."""

    sights: tuple[Sight, ...] = ()


class SharedOps(TorchOps):
    """Ops over parts. tensor, context: the meshes of this process's neighbours, None where it has none.

    Without a store only: for training.
    """

    def __init__(
        self,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        tensor: DeviceMesh | None = None,
        context: DeviceMesh | None = None,
    ) -> None:
        super().__init__(device, dtype)
        self._tensor, self._context = tensor, context

    def begin(self, store: Any, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> Any:
        step = super().begin(store, spans, inv_freq)
        if self._context is None:
            return step
        parts = self._parts(len(step.cos))
        cos, sin = _taken(step.cos, parts), _taken(step.sin, parts)
        table = None if step.table is None else _taken(step.table, parts)
        sights = _sights([span.length for span in spans], parts)
        return ContextStep(store, tuple(spans), (), None, cos, sin, table, sights)

    def own(self, x: TorchTensor) -> TorchTensor:
        return x if self._context is None else _taken(x, self._parts(len(x)))

    def embed(self, table: TorchTensor, ids: Sequence[int] | TorchTensor) -> TorchTensor:
        own = self.own(torch.as_tensor(ids, dtype=torch.long, device=self.device))
        if not isinstance(table, DTensor):
            return super().embed(table, own)
        columns = functional.embedding(own, table.to_local()).to(self.dtype)  # (own tokens, part of dim)
        return _whole(DTensor.from_local(columns, self._tensor, [Shard(1)], run_check=False))

    def rms_norm(self, x: TorchTensor, weight: TorchTensor, eps: float) -> TorchTensor:
        return super().rms_norm(x, weight.to_local() if isinstance(weight, DTensor) else weight, eps)

    def matmul(self, x: TorchTensor, *weights: TorchTensor) -> tuple[TorchTensor, ...]:
        """Products with rows of a matrix stay cut; products with columns are summed up and whole again.

        x is whole, or cut like the columns.
        """
        return tuple(self._product(x, weight) for weight in weights)

    def _product(self, x: TorchTensor, weight: TorchTensor) -> TorchTensor:
        if not isinstance(weight, DTensor):
            return super().matmul(x, weight)[0]
        cut: Placement = Replicate() if x.shape[1] == weight.shape[1] else Shard(1)
        whole = DTensor.from_local(x, self._tensor, [cut], run_check=False)
        if weight.placements[0].is_shard(1):
            return _whole(functional.linear(whole.redistribute(placements=[Shard(1)]), weight.to(x.dtype)))
        product = functional.linear(whole, weight.to(x.dtype))  # (tokens, rows), of which these rows are here
        assert isinstance(product, DTensor)
        return product.to_local()

    def attention(self, q: TorchTensor, k: TorchTensor, v: TorchTensor, step: Any, layer: int) -> TorchTensor:
        if self._context is None:
            return super().attention(q, k, v, step, layer)
        head_dim = 2 * step.cos.shape[2]
        q, k, v = (x.view(len(x), -1, head_dim) for x in (q, self._gathered(k), self._gathered(v)))
        seen = ((q[sight.queries], k[sight.keys], v[sight.keys]) for sight in step.sights)
        return torch.cat([attend(*(x[None] for x in each))[0] for each in seen]).flatten(1)

    def _parts(self, tokens: int) -> tuple[slice, slice]:
        """Which tokens of a step are this process's: an early and a late part, so that all have as much to see."""
        assert self._context is not None
        count, place = 2 * self._context.size(), self._context.get_local_rank()
        if tokens % count:
            raise SettingError(f"{tokens} tokens cannot be cut into {count} parts of the context")
        each = tokens // count
        return slice(place * each, (place + 1) * each), slice(tokens - (place + 1) * each, tokens - place * each)

    def _gathered(self, x: TorchTensor) -> TorchTensor:
        """All neighbours' rows in the order of the tokens; gradients are summed up where they came from."""
        assert self._context is not None
        parts = DTensor.from_local(x, self._context, [Shard(0)], run_check=False)
        both = parts.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
        early_late = both.view(
            self._context.size(), 2, -1, both.shape[1]
        )  # (neighbours, early and late, tokens, width)
        return torch.cat([early_late[:, 0].flatten(0, 1), early_late[:, 1].flip(0).flatten(0, 1)])


def _whole(x: TorchTensor) -> TorchTensor:
    assert isinstance(x, DTensor)
    whole: TorchTensor = x.redistribute(placements=[Replicate()]).to_local()
    return whole


def _taken(x: TorchTensor, parts: tuple[slice, slice]) -> TorchTensor:
    return torch.cat([x[part] for part in parts])


def _sights(lengths: Sequence[int], parts: tuple[slice, slice]) -> tuple[Sight, ...]:
    """What the tokens of each part see, for documents of these lengths that lie one after another."""
    found, own = [], 0
    for part in parts:
        for end, length in zip(accumulate(lengths), lengths, strict=True):
            first, last = max(end - length, part.start), min(end, part.stop)
            if first < last:
                found.append(Sight(slice(own, own + last - first), slice(end - length, last)))
                own += last - first
    return tuple(found)
