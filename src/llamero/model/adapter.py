"""Adapters (LoRA): low-rank changes of a Llama's matrices, and their places in its weights. Files: adapter_files.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError
from llamero.formats.blocks import BlockType
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.weights import Layer, Weights
from llamero.ops.adapted_ops import LowRank, Named
from llamero.ops.protocol import Ops, W

T = TypeVar("T")
Matrix: TypeAlias = NDArray[np.float32]

_MATRICES: Final = ("wq", "wk", "wv", "wo", "w1", "w3", "w2")


@dataclass(frozen=True, eq=False)
class Adapter(Generic[T]):
    """Changes by our names of the matrices: as arrays when read, as weights of one implementation when placed."""

    path: Path
    changes: Mapping[str, LowRank[T]]


def mix(adapters: Sequence[tuple[Adapter[Matrix], float]]) -> Adapter[Matrix]:
    """One adapter that makes the changes of several at once, each with a factor."""
    parts: dict[str, list[LowRank[Matrix]]] = {}
    for adapter, factor in adapters:
        if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not math.isfinite(factor):
            raise SettingError(f"the scale of an adapter must be a finite number, got {factor!r}")
        for name, change in adapter.changes.items():
            with np.errstate(over="ignore", invalid="ignore"):
                b = change.b * np.float32(factor)
            if not np.isfinite(b).all():
                raise SettingError(f"{adapter.path}: a scale of {factor:g} is too large for its numbers")
            parts.setdefault(name, []).append(LowRank(change.a, b))
    mixed = {
        name: LowRank(np.concatenate([part.a for part in some]), np.concatenate([part.b for part in some]))
        for name, some in parts.items()
    }
    return Adapter(adapters[0][0].path, mixed)


def place(adapter: Adapter[Matrix], ops: Ops[Any, W], kind: BlockType) -> Adapter[W]:
    """The adapter as weights of `ops`, kept as numbers of that type."""

    def weight(name: str, values: Matrix) -> W:
        return ops.weight(Tensor(TensorInfo(name, kind, values.shape), kind.encode(values)))

    return Adapter(
        adapter.path,
        {
            name: LowRank(weight(f"{name}.a", change.a), weight(f"{name}.b", change.b))
            for name, change in adapter.changes.items()
        },
    )


def adaptable(weights: Weights[W]) -> Weights[W | Named[W]]:
    """The same weights, their matrices under the names that adapters know."""

    def named(index: int, layer: Layer[W]) -> Layer[W | Named[W]]:
        parts: dict[str, Any] = {field.name: getattr(layer, field.name) for field in fields(layer)}
        return Layer(**parts | {part: Named(f"layers.{index}.{part}", parts[part]) for part in _MATRICES})

    return Weights(
        config=weights.config,
        embedding=weights.embedding,
        layers=tuple(named(index, layer) for index, layer in enumerate(weights.layers)),
        norm=weights.norm,
        output=Named("output", weights.output),
        inv_freq=weights.inv_freq,
    )
