"""What one step learns from, and what any source of such batches offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError
from llamero.ops.protocol import Span

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows of one step. The three arrays are (sequences, context).

    targets: the id that follows each input. counts: 1.0 where the target counts in the loss, else 0.0.
    spans: the documents of all rows, in order, none of them over two rows; attention stays within a span and its
    positions begin at 0. Together they are as long as all rows.
    """

    inputs: Ids
    targets: Ids
    counts: NDArray[np.float32]
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, windows: Ids, counts: NDArray[np.float32] | None = None, spans: Sequence[Span] | None = None) -> Batch:
        """A batch of windows (sequences, context + 1) whose every token is followed by its target.

        Without `counts` (sequences, context) all targets count; without `spans` a row is one document.
        """
        sequences, context = windows.shape[0], windows.shape[1] - 1
        inputs, targets = windows[:, :-1], windows[:, 1:]
        whole = [Span(0, context)] * sequences if spans is None else spans
        return cls(inputs, targets, np.ones(targets.shape, np.float32) if counts is None else counts, tuple(whole))

    def rows(self, first: int, last: int) -> Batch:
        """The rows from `first` up to `last`, exclusive."""
        context = self.inputs.shape[1]
        ends = list(accumulate((span.length for span in self.spans), initial=0))
        begin, end = ends.index(first * context), ends.index(min(last, len(self.inputs)) * context)
        part = slice(first, last)
        return Batch(self.inputs[part], self.targets[part], self.counts[part], self.spans[begin:end])

    def split(self, sequences: int) -> Iterator[Batch]:
        """Micro-batches of at most so many sequences, in order."""
        for first in range(0, len(self.inputs), sequences):
            yield self.rows(first, first + sequences)

    def share(self, rank: int, size: int) -> Batch:
        """The rows of one of `size` data-parallel ranks: neighbours, as many for each rank.

        Raises SettingError where the rows cannot be shared out evenly: ranks that work on unequal numbers of
        micro-batches would wait for each other for ever.
        """
        sequences = len(self.inputs)
        if not 0 <= rank < size or sequences % size:
            raise SettingError(
                f"{sequences} sequences cannot be shared out evenly to {size} ranks (rank {rank} asks); "
                f"choose a number of sequences that is a multiple of {size}"
            )
        each = sequences // size
        return self.rows(rank * each, (rank + 1) * each)


class Source(Protocol):
    """Where batches come from. It has no state: a batch is a function of the data, the seed and the step alone."""

    @property
    def context(self) -> int:
        """Tokens of a row."""
        ...

    @property
    def sequences(self) -> int:
        """Rows of a batch, of all ranks together."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """What decides every batch, flat and fit for JSON: fingerprints, seed, sizes, proportions."""
        ...

    def at(self, step: int) -> Batch:
        """The batch of a step, whatever was asked before."""
        ...

    def documents(self, step: int) -> list[str]:
        """Which documents the step's batch holds, by name, each once and in order; costs no reading of them."""
        ...
