"""ZIP archives whose entries are stored, not compressed: where each entry's bytes lie, and how to write one.

A torch checkpoint is such an archive. Compressed or encrypted entries are refused, so nothing can unfold to more than
the file holds. Knows nothing of what the entries mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, UnsupportedError
from llamero.formats.atomic import atomic_file
from llamero.formats.mapped import Mapped

_MAX_ENTRIES: Final = 1 << 16
_END = struct.Struct("<4sHHHHIIH")  # end of central directory
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")  # one entry of the central directory
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ALIGNMENT: Final = 64  # of an entry's first byte, as torch writes it


def stored_entries(file: Mapped) -> dict[str, tuple[int, int]]:
    """First byte and size of every entry, by name.

    Raises FormatError for a broken archive, UnsupportedError for a compressed or encrypted entry.
    """
    data = file.data.data
    count, at, end = _directory(file, data)
    entries: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        if at + _ENTRY.size > end:
            raise FormatError(f"{file.path}: the archive's directory ends at byte {end}, before its {count} entries do")
        fields = _ENTRY.unpack_from(data, at)
        magic, flags, method, sizes, lengths = fields[0], fields[3], fields[4], fields[8:10], fields[10:13]
        if magic != b"PK\x01\x02":
            raise FormatError(f"{file.path}: no directory entry at byte {at}; the archive is damaged")
        after = at + _ENTRY.size + sum(lengths)
        if after > end:
            raise FormatError(f"{file.path}: the directory entry at byte {at} runs past the directory's end at {end}")
        name_end = at + _ENTRY.size + lengths[0]
        name = bytes(data[at + _ENTRY.size : name_end]).decode("utf-8", "replace")
        if name in entries:
            raise FormatError(f"{file.path}: the entry {name!r} is there twice")
        if method or flags & 1:
            raise UnsupportedError(
                f"{file.path}: the entry {name!r} is compressed or encrypted; save it with torch.save"
            )
        extra = bytes(data[name_end : name_end + lengths[1]])
        stored, size, local = _wide(file, name, (*sizes, fields[16]), extra)
        if stored != size:
            raise FormatError(
                f"{file.path}: the entry {name!r} is not compressed but has two sizes, {stored} and {size}"
            )
        entries[name] = _data_start(file, name, local, size), size
        at = after
    return entries


def _directory(file: Mapped, data: memoryview) -> tuple[int, int, int]:
    """Number of entries, and first and last byte of the central directory."""
    tail = bytes(data[-(_END.size + 65_535) :])
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        raise FormatError(f"{file.path}: no end of a ZIP archive; the file is cut short or no torch checkpoint")
    at = len(data) - len(tail) + found
    count, size, start = _END.unpack_from(data, at)[4:7]
    locator = at - _LOCATOR64.size
    if 0xFFFF in (count,) or 0xFFFFFFFF in (size, start):
        if locator < 0 or bytes(data[locator : locator + 4]) != b"PK\x06\x07":
            raise FormatError(f"{file.path}: the archive is large but lacks its 64-bit directory")
        at = _LOCATOR64.unpack_from(data, locator)[2]
        if at + _END64.size > locator or bytes(data[at : at + 4]) != b"PK\x06\x06":
            raise FormatError(f"{file.path}: the archive's 64-bit directory is not at byte {at}, where it should be")
        count, size, start = _END64.unpack_from(data, at)[7:10]
    if count > _MAX_ENTRIES or count * _ENTRY.size > size or start + size > at:
        raise FormatError(f"{file.path}: a directory of {count} entries in {size} bytes at byte {start} cannot be")
    return count, start, start + size


def _wide(file: Mapped, name: str, values: tuple[int, ...], extra: bytes) -> list[int]:
    """The sizes and the offset of an entry, with those of 64 bits taken from its extra field 1."""
    found, at = b"", 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            found = extra[at + 4 : at + 4 + size]
        at += 4 + size
    wide = []
    # The directory has them as stored size, size, offset; the extra field as size, stored size, offset.
    for value in (values[1], values[0], values[2]):
        if value == 0xFFFFFFFF:
            if len(found) < 8:
                raise FormatError(f"{file.path}: the entry {name!r} lacks a 64-bit size or offset")
            value, found = int.from_bytes(found[:8], "little"), found[8:]
        wide.append(value)
    return [wide[1], wide[0], wide[2]]


def _data_start(file: Mapped, name: str, local: int, size: int) -> int:
    """Where an entry's bytes begin, from its local header."""
    if local + _LOCAL.size > len(file):
        raise FormatError(f"{file.path}: the entry {name!r} is said to be at byte {local} of {len(file)}")
    magic, *_, name_length, extra_length = _LOCAL.unpack_from(file.data.data, local)
    start: int = local + _LOCAL.size + name_length + extra_length
    if magic != b"PK\x03\x04":
        raise FormatError(f"{file.path}: the entry {name!r} is not at byte {local}; the archive is damaged")
    if start + size > len(file):
        raise FormatError(
            f"{file.path}: the entry {name!r} ends at byte {start + size} of {len(file)}; it is cut short"
        )
    return start


def write_stored(path: Path, entries: Iterable[tuple[str, bytes | NDArray[np.uint8]]]) -> None:
    """Write an archive of (name, bytes), each entry's first byte aligned to 64, under its name only when complete."""
    import zipfile  # a slow import, and readers do without

    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            large = len(content) >= zipfile.ZIP64_LIMIT
            before = file.tell() + _LOCAL.size + len(name.encode()) + 4 + (20 if large else 0)
            padding = -before % _ALIGNMENT
            entry.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            with archive.open(entry, "w", force_zip64=large) as out:
                out.write(content if isinstance(content, bytes) else content.data)
