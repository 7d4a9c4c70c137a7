"""An engine's files as the launcher reads them: an index, then their bytes one after another in one deflate stream."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from llamero.errors import SettingError
from llamero.formats.bundle import Progress

_PIECE = 1 << 20  # bytes that are packed without regard to the others, so that all cores can work
_LEVEL = 4  # 9 takes five times as long and saves a twentieth


@dataclass(frozen=True)
class EngineFile:
    """One file: its path inside the engine, whether it is a program, and its bytes, made when asked for."""

    path: str
    load: Callable[[], bytes]
    program: bool = False


@dataclass(frozen=True)
class Packed:
    """index: the list of files. unpacked: bytes of all files. pieces: the deflate stream, in its order."""

    index: bytes
    unpacked: int
    pieces: Iterator[bytes]


def pack(files: Sequence[EngineFile], progress: Progress | None = None) -> Packed:
    """Pack files, in the order of their paths: the same files give the same bytes.

    progress: told (bytes packed, bytes in all). Raises SettingError for a path that an index cannot hold.
    """
    index, contents = bytearray(), []
    for file in sorted(files, key=lambda file: file.path):
        name = file.path.encode()
        if len(name) > 255:
            raise SettingError(f"the path {file.path} is too long for an engine: {len(name)} bytes, 255 are the most")
        data = file.load()
        index += struct.pack("<QBB", len(data), file.program, len(name)) + name
        contents.append(data)
    whole = b"".join(contents)
    return Packed(bytes(index), len(whole), _deflated(whole, progress))


def _deflated(data: bytes, progress: Progress | None) -> Iterator[bytes]:
    def deflate(start: int) -> bytes:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        return packer.compress(data[start : start + _PIECE]) + packer.flush(zlib.Z_FULL_FLUSH)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, piece in enumerate(pool.map(deflate, range(0, len(data), _PIECE))):
            if progress:
                progress(min((number + 1) * _PIECE, len(data)), len(data))
            yield piece
    yield zlib.compressobj(_LEVEL, zlib.DEFLATED, -15).flush()  # an empty last block


def unpack(index: bytes, stream: bytes) -> Iterator[tuple[str, bool, bytes]]:
    """(path, whether it is a program, bytes) of each file: what the launcher does, more slowly."""
    data = zlib.decompress(stream, -15)
    at = start = 0
    while at < len(index):
        size, program, length = struct.unpack_from("<QBB", index, at)
        yield index[at + 10 : at + 10 + length].decode(), bool(program), data[start : start + size]
        at, start = at + 10 + length, start + size
