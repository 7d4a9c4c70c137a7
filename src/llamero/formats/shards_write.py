"""Writing token shards: one document after another, each shard appearing whole, the manifest last.

A writer that starts in a folder with whole shards of its kind goes on after them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.jsontext import write_object
from llamero.formats.shards import KIND, MANIFEST, VERSION, Header, alike, shard_path, summary

SIZE = 100_000_000  # tokens after which a shard is full


class ShardWriter:
    """Adds documents to a folder; used in a `with`, which throws an unfinished shard away after an error.

    vocabulary: ids are below it, and have two bytes where they fit. tokenizer: its SHA-256 in hex. marked: whether
    documents come with marks of which tokens count. size: tokens after which the next document begins a new shard.
    Raises SettingError where the folder holds a whole set, or shards of another kind.
    """

    def __init__(
        self, folder: Path, *, vocabulary: int, tokenizer: str, marked: bool = False, size: int = SIZE
    ) -> None:
        if not 0 < vocabulary <= 1 << 32 or size < 1:
            raise SettingError(f"a vocabulary of {vocabulary} or shards of {size} tokens cannot be")
        if (folder / MANIFEST).exists():
            raise SettingError(f"{folder} holds a whole set of shards already; name another folder or delete it")
        for stale in folder.glob(".*.shard.*.partial"):  # of a writer that was killed
            stale.unlink()
        width = 2 if vocabulary <= 1 << 16 else 4
        self.folder, self.size = folder, size
        self._kind = Header(width, 0, 0, vocabulary, marked, bytes.fromhex(tokenizer), bytes(32))
        self._headers = _whole(folder, self._kind)
        self._open: _Open | None = None

    @property
    def documents(self) -> int:
        """How many documents are in whole shards: so many need not be added again after a stop."""
        return sum(header.documents for header in self._headers)

    @property
    def empty(self) -> bool:
        """Whether there is no document yet."""
        return not self._headers and self._open is None

    def add(self, ids: NDArray[Any], marks: NDArray[np.bool_] | None = None) -> None:
        """Add a document (tokens,). Raises SettingError for an empty one, an id out of range, or missing marks."""
        kind = self._kind
        if ids.ndim != 1 or not ids.size or int(ids.min()) < 0 or int(ids.max()) >= kind.vocabulary:
            raise SettingError(f"a document needs at least one token, all from 0 to {kind.vocabulary - 1}")
        if (marks is not None) != kind.marked or (marks is not None and marks.shape != ids.shape):
            raise SettingError(
                f"a set with marked={kind.marked} needs {'a mark for each token' if kind.marked else 'no marks'}"
            )
        if self._open is None:
            self._open = _Open(shard_path(self.folder, len(self._headers)))
        self._open.add(ids.astype(f"<u{kind.width}"), marks)
        if self._open.tokens >= self.size:
            self._end_shard()

    def finish(self, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the last shard and the manifest; returns the manifest. Raises SettingError for a set without tokens."""
        self._end_shard()
        if not self._headers:
            raise SettingError(f"{self.folder}: there are no documents to write")
        told = {"format": KIND, "version": VERSION, "shards": len(self._headers), **summary(self._headers)}
        told["about"] = dict(about or {})
        write_object(self.folder / MANIFEST, told)
        return told

    def _end_shard(self) -> None:
        if self._open is not None:
            self._headers.append(self._open.close(self._kind))
            self._open = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.drop(error or SettingError("the set was not finished"))


class _Open:
    """A shard being written: ids go to the disk at once, the index and marks when it is closed."""

    def __init__(self, path: Path) -> None:
        self.tokens = 0
        self._starts: list[int] = []
        self._marks: list[NDArray[np.bool_]] = []
        self._digest = hashlib.sha256()
        self._keeper: AbstractContextManager[BinaryIO] = atomic_file(path)
        self._file = self._keeper.__enter__()
        self._file.seek(128)

    def add(self, ids: NDArray[Any], marks: NDArray[np.bool_] | None) -> None:
        self._starts.append(self.tokens)
        self.tokens += ids.size
        self._write(ids.tobytes())
        if marks is not None:
            self._marks.append(marks)

    def close(self, kind: Header) -> Header:
        self._write(bytes(-self.tokens * kind.width % 8))
        self._write(np.array(self._starts, "<u8").tobytes())
        if kind.marked:
            self._write(np.packbits(np.concatenate(self._marks), bitorder="little").tobytes())
        digest = self._digest.digest()
        shape = (kind.width, self.tokens, len(self._starts), kind.vocabulary)
        header = Header(*shape, kind.marked, kind.tokenizer, digest)
        self._file.seek(0)
        self._file.write(header.pack())
        self._keeper.__exit__(None, None, None)
        return header

    def drop(self, error: BaseException) -> None:
        """Delete what was written."""
        try:
            self._keeper.__exit__(type(error), error, None)
        except BaseException as same:  # a context manager made from a generator raises what it is given
            if same is not error:
                raise

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def _whole(folder: Path, kind: Header) -> list[Header]:
    """The shards that an earlier writer of this kind left whole."""
    headers: list[Header] = []
    while shard_path(folder, len(headers)).exists():
        path = shard_path(folder, len(headers))
        try:
            header = Header.read(path)
        except (FormatError, ModelNotFound) as error:
            raise SettingError(f"{error}; delete {folder}, or name another folder") from error
        if not alike(header, kind):
            raise SettingError(f"{path} is of another vocabulary or tokenizer; delete {folder} or name another")
        headers.append(header)
    return headers
