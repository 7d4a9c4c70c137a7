"""A file's bytes, mapped into memory or lent by a caller. Knows nothing of what the bytes mean."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound

Buffer = bytes | bytearray | memoryview | mmap.mmap | NDArray[np.uint8]


class Mapped:
    """Read-only bytes (size,) of a file. Views of `data` stay valid after `close`, which only lets go of them."""

    def __init__(self, path: Path, data: NDArray[np.uint8], mapping: mmap.mmap | None = None) -> None:
        self.path = path
        self.data = data
        self._mapping = mapping

    @classmethod
    def open(cls, path: str | Path, offset: int = 0, size: int | None = None) -> Mapped:
        """Map a file, or `size` bytes of it (default: all) from `offset` on.

        Raises ModelNotFound where there is none, FormatError for an empty one or a stretch outside of it.
        """
        path = Path(path)
        if not path.is_file():
            raise ModelNotFound(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}")
        with path.open("rb") as file:
            whole = os.fstat(file.fileno()).st_size
            if whole == 0:
                raise FormatError(f"{path} is empty; fetch or write it again")
            end = whole if size is None else offset + size
            if not 0 <= offset < end <= whole:
                raise FormatError(f"{path}: bytes {offset} to {end} lie outside a file of {whole}; it is cut short")
            before = offset % mmap.ALLOCATIONGRANULARITY
            mapping = mmap.mmap(file.fileno(), end - offset + before, access=mmap.ACCESS_READ, offset=offset - before)
        return cls(path, np.frombuffer(mapping, dtype=np.uint8)[before:], mapping)

    @classmethod
    def over(cls, buffer: Buffer, offset: int, size: int | None, path: Path) -> Mapped:
        """`size` bytes (default: all) from `offset` of a buffer; `path` names it in errors."""
        whole = np.frombuffer(buffer, dtype=np.uint8)
        end = len(whole) if size is None else offset + size
        if not 0 <= offset <= end <= len(whole):
            raise FormatError(f"{path}: bytes {offset} to {end} lie outside a buffer of {len(whole)}")
        data = whole[offset:end]
        data.flags.writeable = False
        return cls(path, data)

    def __len__(self) -> int:
        return len(self.data)

    def close(self) -> None:
        """Let go of the bytes; the file is unmapped when the last view of it is gone."""
        self.data = np.empty(0, dtype=np.uint8)
        if self._mapping is not None:
            with suppress(BufferError):  # somebody still looks at it
                self._mapping.close()
            self._mapping = None
