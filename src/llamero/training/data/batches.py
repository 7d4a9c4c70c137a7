"""Batches of one stream. The order is a pure function of (data, seed, step): a loader has no state but the step.

Knows neither text nor models: ids come in, rows of ids go out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llamero.errors import SettingError
from llamero.training.data.batch import Batch, Ids
from llamero.training.data.rows import Packing, batch_of, rows_of
from llamero.training.data.tokens import Stream


class Batches:
    """A `Source` over one stream: every row once per epoch, in an order shuffled anew each epoch."""

    def __init__(
        self, stream: Stream, *, context: int, sequences: int, seed: int = 0, packing: Packing = "stream"
    ) -> None:
        if sequences < 1:
            raise SettingError(f"sequences must be at least 1, got {sequences}")
        self.rows = rows_of(stream, context=context, seed=seed, packing=packing)
        self.context, self.sequences, self.seed, self.packing = context, sequences, seed, packing

    @property
    def origin(self) -> dict[str, Any]:
        """What decides every batch."""
        sizes = {"context": self.context, "sequences": self.sequences, "packing": self.packing}
        return {"data": self.rows.stream.fingerprint, "seed": self.seed, **sizes}

    def at(self, step: int) -> Batch:
        """The batch of a step, whatever was asked before."""
        return batch_of(self.rows.at(self.numbers(step)))

    def documents(self, step: int) -> list[str]:
        """Which documents the step's batch holds."""
        return list(dict.fromkeys(self.rows.documents(self.numbers(step))))

    def numbers(self, step: int) -> Ids:
        """The numbers in the run of a step's rows (sequences,)."""
        return np.arange(step * self.sequences, (step + 1) * self.sequences)
