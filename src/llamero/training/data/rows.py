"""Rows of a batch, cut from a stream: the m-th row of a run is a pure function of (fingerprint, seed, m)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError, nearest
from llamero.ops.protocol import Span
from llamero.training.data.batch import Batch, Ids
from llamero.training.data.fit import Fit
from llamero.training.data.order import key_of, shuffle
from llamero.training.data.tokens import Stream

Packing = Literal["stream", "masked", "whole"]
"""stream: windows cut straight from the stream, in which documents see those before them. masked: the same windows,
each document in them alone. whole: documents whole where they fit, packed with little waste, each alone."""


@dataclass(frozen=True)
class Row:
    """One row: inputs, targets and counts (context,), and the spans of its documents."""

    inputs: Ids
    targets: Ids
    counts: NDArray[np.float32]
    spans: tuple[Span, ...]


class Rows(Protocol):
    """What a stream is cut into. Each epoch has `count` rows, every one once, shuffled anew."""

    @property
    def count(self) -> int:
        """Rows of an epoch."""
        ...

    @property
    def stream(self) -> Stream:
        """What they are cut from."""
        ...

    def at(self, numbers: Ids) -> list[Row]:
        """Rows by their numbers in the run, from 0."""
        ...

    def documents(self, numbers: Ids) -> list[str]:
        """The names of the documents in these rows, row by row."""
        ...


def rows_of(stream: Stream, *, context: int, seed: int, packing: Packing) -> Rows:
    """The rows of a stream. Raises SettingError for too few tokens or a packing that is none."""
    if packing not in get_args(Packing):
        raise SettingError(f"there is no packing {packing!r} ({nearest(packing, get_args(Packing))})")
    if context < 1:
        raise SettingError(f"the context must be at least 1, got {context}")
    if packing == "whole":
        return Packed(stream, context, seed)
    return Windows(stream, context, seed, masks=packing == "masked")


def batch_of(rows: Sequence[Row]) -> Batch:
    """Rows side by side."""
    return Batch(
        inputs=np.stack([row.inputs for row in rows]),
        targets=np.stack([row.targets for row in rows]),
        counts=np.stack([row.counts for row in rows]),
        spans=tuple(span for row in rows for span in row.spans),
    )


def in_epoch(stream: Stream, numbers: Ids, count: int, seed: int) -> list[tuple[int, int]]:
    """For each row, by rising number, its place in its epoch, shuffled, and a number that the epoch alone decides."""
    found: list[tuple[int, int]] = []
    for epoch in dict.fromkeys((numbers // count).tolist()):
        key = key_of(f"{stream.fingerprint}:{seed}:{epoch}")
        chosen = numbers[numbers // count == epoch] % count
        found += [(place, int(key[-1])) for place in shuffle(chosen, count, key).tolist()]
    return found


class Windows:
    """Windows of context + 1 tokens that overlap by one: the last target of one is the first input of the next.

    Each epoch starts them at another offset, so that their borders differ. With `masks` a document that began before
    its window starts anew in it, and what is to be guessed of a next document's first token does not count.
    """

    def __init__(self, stream: Stream, context: int, seed: int, *, masks: bool) -> None:
        self.count = (stream.tokens - context) // context
        if self.count < 1:
            raise SettingError(
                f"{stream.name}: {stream.tokens} tokens are too few for windows of {context}: "
                f"give at least {2 * context}"
            )
        self.stream, self.context, self.seed, self.masks = stream, context, seed, masks

    def starts(self, numbers: Ids) -> list[int]:
        """Where the windows of these rows begin in the stream."""
        places = in_epoch(self.stream, numbers, self.count, self.seed)
        return [place * self.context + number % self.context for place, number in places]

    def at(self, numbers: Ids) -> list[Row]:
        """The rows of these numbers."""
        return [self._row(start) for start in self.starts(numbers)]

    def documents(self, numbers: Ids) -> list[str]:
        """The documents of their inputs and targets."""
        return [
            f"{self.stream.name}:{document}"
            for start in self.starts(numbers)
            for document in range(self.stream.document(start), self.stream.document(start + self.context) + 1)
        ]

    def _row(self, start: int) -> Row:
        end = start + self.context
        ids = self.stream.read(start, end + 1).astype(np.int64)
        marks = self.stream.marks(start + 1, end + 1)
        counts = np.ones(self.context, np.float32) if marks is None else marks.astype(np.float32)
        spans: tuple[Span, ...] = (Span(0, self.context),)
        if self.masks:
            borders = self.stream.borders(start + 1, end + 1) - start  # 1 .. context
            counts[borders - 1] = 0.0
            edges = [0, *borders[borders < self.context].tolist(), self.context]
            spans = tuple(Span(0, last - first) for first, last in pairwise(edges))
        return Row(ids[:-1], ids[1:], counts, spans)


class Packed:
    """Rows of whole documents; longer ones are cut. What is left of a row is a gap, which never counts."""

    def __init__(self, stream: Stream, context: int, seed: int) -> None:
        starts = stream.borders(0, stream.tokens)
        self._fit = Fit.of(starts, np.diff(starts, append=stream.tokens), context)
        self.count = self._fit.rows
        if self.count < 1:
            raise SettingError(f"{stream.name}: no document is longer than a token")
        self.stream, self.context, self.seed = stream, context, seed

    def at(self, numbers: Ids) -> list[Row]:
        """The rows of these numbers."""
        return [self._row(row) for row, _ in in_epoch(self.stream, numbers, self.count, self.seed)]

    def documents(self, numbers: Ids) -> list[str]:
        """The documents of these rows."""
        return [
            f"{self.stream.name}:{self.stream.document(start)}"
            for row, _ in in_epoch(self.stream, numbers, self.count, self.seed)
            for start, _ in self._fit.pieces(row)
        ]

    def _row(self, number: int) -> Row:
        inputs, targets = np.zeros(self.context, np.int64), np.zeros(self.context, np.int64)
        counts, spans, at = np.zeros(self.context, np.float32), [], 0
        for start, size in self._fit.pieces(number):
            place = slice(at, at + size)
            ids = self.stream.read(start, start + size + 1)
            inputs[place], targets[place] = ids[:-1], ids[1:]
            marks = self.stream.marks(start + 1, start + size + 1)
            counts[place] = 1.0 if marks is None else marks
            spans.append(Span(0, size))
            at += size
        if at < self.context:
            spans.append(Span(0, self.context - at))
        return Row(inputs, targets, counts, tuple(spans))
