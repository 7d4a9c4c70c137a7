"""What a model asks of a machine: operations for each token of a prompt, bytes for each step of writing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llamero.formats.tensor import Reader
from llamero.model.cache import cache_bytes
from llamero.model.config import Config
from llamero.model.weights import file_name
from llamero.ops.protocol import CacheKind

Unit = Literal["int8", "bf16", "f32"]
_UNITS: dict[str, Unit] = {"F32": "f32", "F16": "bf16", "BF16": "bf16"}  # and int8 for blocks


@dataclass(frozen=True)
class Demand:
    """Counted are the matrices that are multiplied, not attention; of the embedding, a step reads one row.

    The output matrix is read in each step, but multiplied with only the last token of a prompt.
    """

    config: Config
    type: str  # of most weights
    unit: Unit  # what weights of that type are multiplied with
    operations: int  # for each token of a prompt; a multiplication and an addition are two
    weights: int  # bytes read in each step

    def step(self, together: int, tokens: int, cache: CacheKind) -> int:
        """Bytes that a step reads which adds a token to each of so many sequences of so many tokens."""
        return self.weights + together * cache_bytes(self.config, tokens, cache)


def demand_of(reader: Reader, config: Config) -> Demand:
    """What the file's weights ask for."""
    matrices = {ours: reader.tensors[file_name(ours, reader.layout)] for ours, s in config.shapes().items() if s[1:]}
    output = matrices["embedding" if config.tied else "output"]
    layers = [info for ours, info in matrices.items() if ours.startswith("layers.")]
    values: Counter[str] = Counter()
    for info in layers:
        values[info.type.name] += int(np.prod(info.shape))
    (kind, _), *_ = values.most_common(1)
    block = next(info.type.values for info in layers if info.type.name == kind)
    return Demand(
        config=config,
        type=kind,
        unit="int8" if block > 1 else _UNITS.get(kind, "f32"),
        operations=2 * values.total(),
        weights=sum(info.nbytes for info in [*layers, output]),
    )
