"""A long array of strings in a file, read without making a Python object of each.

GGUF stores a vocabulary as length-prefixed strings one after another; where the next begins is known only from the
length of the one before. A vocabulary with its merges has 400,000 of them, so the walk is done with numpy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError

Bytes = NDArray[np.uint8]
Spans = NDArray[np.int64]

_WINDOW: Final = 1 << 17  # bytes looked at together
_PLAIN_STEPS: Final = 32  # strings walked one by one where the quick way finds none
_LENGTH = struct.Struct("<Q")


class StringArray(Sequence[str]):
    """Strings that stay in the file until they are asked for.

    Raises FormatError when a string asked for is not UTF-8; `raw` gives the bytes as they are.
    """

    def __init__(self, buffer: Bytes, spans: Spans, name: str) -> None:
        self._buffer = buffer
        self._spans = spans
        self._name = name

    def raw(self) -> tuple[Spans, Bytes]:
        """(count, 2) first and one-past-last byte of every string, and the buffer they count in. Nothing is copied."""
        return self._spans, self._buffer

    def bytes_at(self, index: int) -> bytes:
        """One string's bytes."""
        first, end = self._spans[index].tolist()
        return self._buffer[first:end].tobytes()

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._text(self.bytes_at(index), index)

    def __iter__(self) -> Iterator[str]:
        view = self._buffer.data
        for index, (first, end) in enumerate(self._spans.tolist()):
            yield self._text(bytes(view[first:end]), index)

    def __repr__(self) -> str:
        return f"<{len(self)} strings of {self._name}>"

    def _text(self, raw: bytes, index: int) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{self._name}[{index}] is not UTF-8: {error}") from None


def string_spans(data: Bytes, start: int, count: int, name: str) -> tuple[Spans, int]:
    """Where `count` length-prefixed strings lie from byte `start` -> spans (count, 2), and the byte after the last.

    Raises FormatError when they run past the end of `data`. The caller has checked that 8 * count bytes are there.
    """
    spans = np.empty((count, 2), dtype=np.int64)
    done = 0
    while done < count:
        heads = _likely_lengths(data[start : start + _WINDOW]) + start
        nexts = heads + 8 + data[heads]
        breaks = np.append(np.flatnonzero(nexts[:-1] != heads[1:]), len(heads) - 1)
        end = start + _WINDOW
        while done < count and start < end:
            at = int(np.searchsorted(heads, start))
            if at < len(heads) and heads[at] == start:
                stop = min(int(breaks[np.searchsorted(breaks, at)]) + 1, at + count - done)
                spans[done : done + stop - at, 0] = heads[at:stop] + 8
                spans[done : done + stop - at, 1] = nexts[at:stop]
                done, start = done + stop - at, int(nexts[stop - 1])
                if start > len(data):
                    raise _outside(name, done - 1, int(heads[stop - 1]), len(data))
            else:
                done, start = _plain_steps(data, spans, done, start, name)
    return spans, start


def _likely_lengths(window: Bytes) -> Spans:
    """Positions that look like the 8-byte length of a string of 1 to 255 bytes with no zero among them.

    Such a length is one non-zero byte and seven zeros, so two non-zero bytes stand exactly 8 apart. A position may
    be wrong; the walk takes only those that the string before it points to.
    """
    filled = np.flatnonzero(window)
    heads: Spans = filled[:-1][np.diff(filled) == 8]
    return heads


def _plain_steps(data: Bytes, spans: Spans, done: int, start: int, name: str) -> tuple[int, int]:
    """Walk a few strings one by one -> how many are done now, and where the next begins."""
    view, size = data.data, len(data)
    found: list[tuple[int, int]] = []
    for _ in range(min(_PLAIN_STEPS, len(spans) - done)):
        first = start + 8
        end = first + _LENGTH.unpack_from(view, start)[0] if first <= size else first
        if end > size:
            raise _outside(name, done + len(found), start, size)
        found.append((first, end))
        start = end
    spans[done : done + len(found)] = found
    return done + len(found), start


def _outside(name: str, index: int, at: int, size: int) -> FormatError:
    return FormatError(f"{name}[{index}] at byte {at} runs past the end of the file ({size} bytes)")
