"""A stream of tokens in documents: what every loader reads. Shards are one; here is one that lies in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError


class Stream(Protocol):
    """Documents one after another as token ids; `formats.shards.Shards` is one."""

    @property
    def name(self) -> str:
        """What it is called where its documents are named."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the content; two equal fingerprints give the same batches."""
        ...

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        ...

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        """Ids from place `first` up to `last`."""
        ...

    def marks(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Which of them count in the loss; None where all do."""
        ...

    def borders(self, first: int, last: int) -> NDArray[np.int64]:
        """The places, from `first` up to `last`, where documents begin."""
        ...

    def document(self, place: int) -> int:
        """The number of the document that holds a place."""
        ...


@dataclass(frozen=True)
class Tokens:
    """A stream in memory.

    ids: (n,) of any unsigned integer type. counts: (n,) bool, or None where all count. starts: (documents,), where
    documents begin, the first at 0.
    """

    ids: NDArray[np.unsignedinteger[Any]]
    counts: NDArray[np.bool_] | None
    starts: NDArray[np.int64]
    fingerprint: str
    name: str = field(default="tokens")

    @classmethod
    def of(
        cls,
        ids: NDArray[np.unsignedinteger[Any]],
        counts: NDArray[np.bool_] | None = None,
        starts: NDArray[np.int64] | None = None,
        name: str = "tokens",
    ) -> Tokens:
        """Tokens, all one document unless `starts` tells; the fingerprint is a hash of their content."""
        if ids.ndim != 1 or ids.dtype.kind != "u":
            raise SettingError(f"tokens must be a flat array of unsigned integers, got {ids.dtype} {ids.shape}")
        if counts is not None and counts.shape != ids.shape:
            raise SettingError(f"there are {ids.size} tokens but {counts.size} marks of which count")
        begins = np.zeros(1, np.int64) if starts is None else np.asarray(starts, np.int64)
        if ids.size and (begins[0] != 0 or begins[-1] >= ids.size or (np.diff(begins) <= 0).any()):
            raise SettingError(f"documents must begin one after another, the first at 0, within {ids.size} tokens")
        digest = hashlib.sha256(f"{ids.dtype.str}:{ids.size}:".encode())
        for array in (ids, counts, None if starts is None else begins):
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return cls(ids, counts, begins, digest.hexdigest(), name)

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.ids.size

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        """Ids from `first` up to `last`."""
        return self.ids[first:last]

    def marks(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Which of them count in the loss."""
        return None if self.counts is None else self.counts[first:last]

    def borders(self, first: int, last: int) -> NDArray[np.int64]:
        """Where documents begin."""
        low, high = np.searchsorted(self.starts, [first, last])
        return self.starts[low:high]

    def document(self, place: int) -> int:
        """The number of the document that holds a place."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1
