"""Held-out loss: what a model in training makes of text that it never learns from, always the same text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.training.data.batch import Batch
from llamero.training.data.tokens import Stream
from llamero.training.team.team import Team

MOST: Final = 1 << 17  # tokens that are enough


class Measured(Protocol):
    """What can tell a batch's loss."""

    def measure(self, batch: Batch) -> float:
        """The sum of losses alone, in nats, without gradients."""
        ...


@dataclass(frozen=True)
class Loss:
    """Held-out loss. nats: per token. bits: per byte of text, comparable between vocabularies."""

    nats: float
    bits: float
    tokens: int


class HeldOut:
    """Tokens kept from training, in windows one after another; what does not fill the last window is left out.

    stream: of at least 2 tokens; fewer than a window are one short window. sizes: bytes of each token's text (vocab,),
    see `byte_sizes`. rows: windows measured at once. most: tokens that are enough.
    """

    def __init__(
        self,
        stream: Stream,
        sizes: NDArray[np.int64],
        *,
        context: int,
        rows: int,
        most: int = MOST,
    ) -> None:
        if stream.tokens < 2:
            raise SettingError(f"{stream.tokens} held-out tokens tell nothing; hold out more")
        context = min(context, stream.tokens - 1)
        self.windows = min((stream.tokens - 1) // context, max(most // context, 1))
        self._stream, self._sizes, self._context, self._rows = stream, sizes, context, rows

    def measure(self, objective: Measured, team: Team) -> Loss:
        """The loss of all windows. Of several processes each measures its share, in as many turns as the others."""
        nats, tokens, size = 0.0, 0, 0
        turns = self._batches()
        while turn := list(islice(turns, team.size)):
            own = turn[team.rank] if team.rank < len(turn) else replace(turn[0], counts=np.zeros_like(turn[0].counts))
            nats += objective.measure(own)
            for batch in turn:
                tokens += batch.targets.size
                size += int(self._sizes[batch.targets].sum())
        nats = team.total(nats)
        return Loss(nats / tokens, nats / math.log(2) / max(size, 1), tokens)

    def _batches(self) -> Iterator[Batch]:
        context = self._context
        for first in range(0, self.windows, self._rows):
            last = min(first + self._rows, self.windows)
            ids = self._stream.read(first * context, last * context + 1).astype(np.int64)
            starts = np.arange(last - first) * context
            yield Batch.of(ids[starts[:, None] + np.arange(context + 1)])


def byte_sizes(tokenizer: Tokenizer, vocab: int) -> NDArray[np.int64]:
    """How many bytes of text each id stands for (vocab,); special tokens stand for none."""
    special = set(tokenizer.special_tokens.values())
    own = [0 if token in special else len(tokenizer.piece(token)) for token in range(tokenizer.vocab_size)]
    return np.array(own + [0] * (vocab - len(own)), np.int64)
