"""The wire format of protocol buffers, as much as a vocabulary needs. Strict; knows no message.

A message is a row of fields: a varint (number << 3 | wire type), then a varint (0), 8 bytes (1), a length and that many
bytes (2), or 4 bytes (5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from llamero.errors import TokenizerError

Value = int | bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MOST_BYTES = 10  # of a varint: 64 bits, seven at a time


def fields(data: bytes, where: str) -> Iterator[tuple[int, int, Value]]:
    """(number, wire type, value) of every field, in order; fixed-size values as bytes.

    Raises TokenizerError, with the byte, where the data break the format.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at, where)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise TokenizerError(f"{where}: field number 0 before byte {at}; this is no protocol buffer")
        value: Value
        if wire == VARINT:
            value, at = _varint(data, at, where)
        else:
            size, at = _size(data, at, wire, where)
            if size > len(data) - at:
                raise TokenizerError(
                    f"{where}: field {number} at byte {at} claims {size} bytes of {len(data) - at} left; fetch it again"
                )
            value, at = data[at : at + size], at + size
        yield number, wire, value


def _size(data: bytes, at: int, wire: int, where: str) -> tuple[int, int]:
    if wire == BYTES:
        return _varint(data, at, where)
    if wire in (FIXED64, FIXED32):
        return (8 if wire == FIXED64 else 4), at
    raise TokenizerError(f"{where}: wire type {wire} before byte {at}; this is no protocol buffer")


def _varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    value = 0
    for i in range(_MOST_BYTES):
        if at + i >= len(data):
            raise TokenizerError(f"{where}: the file ends inside a number, at byte {at + i}; fetch it again")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise TokenizerError(f"{where}: a number at byte {at} is longer than 64 bits")


def as_int(value: Value, wire: int, where: str) -> int:
    """A varint field as int32, negative where its 64 bits say so. Raises TokenizerError for another wire type."""
    if wire != VARINT or not isinstance(value, int):
        raise TokenizerError(f"{where} should be a whole number")
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def as_float(value: Value, wire: int, where: str) -> float:
    """A 4-byte field as float32. Raises TokenizerError for another wire type."""
    if wire != FIXED32 or not isinstance(value, bytes):
        raise TokenizerError(f"{where} should be a 4-byte number")
    number: float = struct.unpack("<f", value)[0]
    return number


def as_bytes(value: Value, wire: int, where: str) -> bytes:
    """A string or message field. Raises TokenizerError for another wire type."""
    if wire != BYTES or not isinstance(value, bytes):
        raise TokenizerError(f"{where} should be a string or a message")
    return value


def field(number: int, value: int | float | bytes | str) -> bytes:
    """One field as `fields` reads it: a whole number as a varint, a float as 4 bytes, the rest as bytes."""
    if isinstance(value, float):
        return _number(number << 3 | FIXED32) + struct.pack("<f", value)
    if isinstance(value, int):
        return _number(number << 3 | VARINT) + _number(value & (1 << 64) - 1)
    raw = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | BYTES) + _number(len(raw)) + raw


def _number(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
