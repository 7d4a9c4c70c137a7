"""Programs and shared libraries (ELF, 64 bits, little-endian): which loader one asks for, and making one smaller.

Only what runs is looked at, the program headers; sections serve linkers and debuggers.
"""

from __future__ import annotations

import struct
from typing import Final

_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<qQ")
_LOAD, _DYNAMIC_SEGMENT, _INTERPRETER = 1, 2, 3
_STRING_TABLE, _RPATH, _RUNPATH = 5, 15, 29
_NOTHING: Final = 0x6000_0000  # a tag of no meaning to any loader


def is_elf(data: bytes) -> bool:
    """Whether this is a file of the kind that this module reads."""
    return data[:6] == b"\x7fELF\x02\x01" and len(data) >= _HEADER.size


def loader_of(data: bytes) -> str | None:
    """The dynamic loader that a program asks for; None for a static one."""
    for kind, offset, _, size in _segments(data):
        if kind == _INTERPRETER:
            return data[offset : offset + size].rstrip(b"\0").decode()
    return None


def trimmed(data: bytes) -> bytes:
    """The same without sections, symbols and debugging data, and without search paths that are not its own folder's.

    A path of the machine that made it means nothing on another, or worse, something else.
    """
    segments = _segments(data)
    end = max((offset + size for _, offset, _, size in segments), default=len(data))
    kept = bytearray(data[: max(end, _HEADER.size)])
    fields = list(_HEADER.unpack_from(kept))
    fields[5] = fields[11] = fields[12] = 0  # where sections are, how many, and which holds their names
    struct.pack_into("<HHIQQQIHHHHHH", kept, 16, *fields)
    for kind, offset, _, size in segments:
        if kind == _DYNAMIC_SEGMENT:
            _forget_paths(kept, offset, size, segments)
    return bytes(kept)


def _segments(data: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset in the file, address, size in the file) of every program header."""
    fields = _HEADER.unpack_from(data)
    at, entry, count = fields[4], fields[8], fields[9]
    found = []
    for i in range(count):
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(data, at + i * entry)
        found.append((kind, offset, address, size))
    return found


def _forget_paths(data: bytearray, start: int, size: int, segments: list[tuple[int, int, int, int]]) -> None:
    entries = [(at, *_DYNAMIC.unpack_from(data, at)) for at in range(start, start + size, _DYNAMIC.size)]
    tables = [value for _, tag, value in entries if tag == _STRING_TABLE]
    for at, tag, value in entries:
        if tag == 0:
            return
        if tag in (_RPATH, _RUNPATH) and tables:
            first = _in_file(tables[0], segments) + value
            path = bytes(data[first : data.index(0, first)])
            if not all(part.startswith((b"$ORIGIN", b"${ORIGIN}")) for part in path.split(b":")):
                _DYNAMIC.pack_into(data, at, _NOTHING, value)


def _in_file(address: int, segments: list[tuple[int, int, int, int]]) -> int:
    for kind, offset, start, size in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    return address
