"""Several streams one after another, as one: what is held out of the parts of a mixture."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.training.data.tokens import Stream


class Joined:
    """A `Stream` of streams; their documents are counted on."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = [stream for stream in streams if stream.tokens]
        self._ends = list(accumulate((stream.tokens for stream in self._streams), initial=0))
        last = [stream.document(stream.tokens - 1) + 1 for stream in self._streams]
        self._documents = list(accumulate(last, initial=0))
        self.tokens = self._ends[-1]
        self.name = "+".join(stream.name for stream in self._streams)
        parts = "\n".join(stream.fingerprint for stream in self._streams)
        self.fingerprint = hashlib.sha256(parts.encode()).hexdigest()

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        """Ids from `first` up to `last`."""
        return np.concatenate([stream.read(begin, end) for stream, begin, end, _ in self._parts(first, last)])

    def marks(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Which of them count in the loss; None where all do."""
        found = []
        for stream, begin, end, _ in self._parts(first, last):
            marks = stream.marks(begin, end)
            found.append(np.ones(end - begin, np.bool_) if marks is None else marks)
        return None if all(part.all() for part in found) else np.concatenate(found)

    def borders(self, first: int, last: int) -> NDArray[np.int64]:
        """The places, from `first` up to `last`, where documents begin."""
        return np.concatenate([stream.borders(begin, end) + at for stream, begin, end, at in self._parts(first, last)])

    def document(self, place: int) -> int:
        """The number of the document that holds a place."""
        number = bisect_right(self._ends, place) - 1
        return self._documents[number] + self._streams[number].document(place - self._ends[number])

    def _parts(self, first: int, last: int) -> list[tuple[Stream, int, int, int]]:
        """The streams of a stretch: each with the stretch's places in it, and where it begins itself."""
        return [
            (stream, max(first - begin, 0), min(last, end) - begin, begin)
            for stream, begin, end in zip(self._streams, self._ends, self._ends[1:], strict=False)
            if first < end and begin < last
        ]
