"""The head of one GGUF file: its metadata and the list of its tensors, each number checked before it is believed.

Refuses to know about splits (gguf.py) and about the tensors' contents.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from llamero.errors import FormatError, UnsupportedError
from llamero.formats.blocks import block_type
from llamero.formats.gguf_values import DTYPES, SCALARS, ValueType
from llamero.formats.mapped import Mapped
from llamero.formats.strings import StringArray, string_spans
from llamero.formats.tensor import TensorInfo

MAGIC: Final = b"GGUF"
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_MAX_KEY: Final = 65_535
_MAX_TEXT: Final = 1 << 25  # bytes of all keys, names and string values: room for a whole tokenizer.json
_MAX_STRINGS: Final = 1 << 20  # in all arrays of strings together
_MAX_KEYS: Final = 1 << 16
_MAX_TENSORS: Final = 1 << 16
_LEAST_KEY_VALUE: Final = 8 + 1 + 4 + 1  # bytes of the shortest possible entry
_LEAST_TENSOR: Final = 8 + 1 + 4 + 4 + 8


@dataclass(frozen=True)
class Header:
    """What stands before the data. `starts`: the first byte of each tensor in the file."""

    version: int
    metadata: dict[str, Any]
    types: dict[str, ValueType]
    tensors: dict[str, TensorInfo]
    starts: dict[str, int]


def parse_header(file: Mapped) -> Header:
    """Read and check a file's head. Raises FormatError, or UnsupportedError for what is well-formed but not ours."""
    cursor = _Cursor(file)
    version = _version(cursor)
    tensor_count = cursor.count("tensor count", _MAX_TENSORS, _LEAST_TENSOR)
    key_count = cursor.count("key count", _MAX_KEYS, _LEAST_KEY_VALUE)
    metadata: dict[str, Any] = {}
    types: dict[str, ValueType] = {}
    for _ in range(key_count):
        key = cursor.text("a metadata key", _MAX_KEY)
        if key in metadata:
            raise cursor.wrong(f"metadata key {key!r} is there twice")
        types[key], metadata[key] = _value(cursor, key)
    alignment = _alignment(cursor, metadata, types)
    tensors, offsets = _tensors(cursor, tensor_count)
    data_start = -(-cursor.at // alignment) * alignment
    starts = _placed(cursor, tensors, offsets, data_start, alignment)
    return Header(version, metadata, types, tensors, starts)


class _Cursor:
    """A position in a file, and reads at it that never leave the file."""

    def __init__(self, file: Mapped) -> None:
        self.file = file
        self.at = 0
        self.text_left = _MAX_TEXT
        self.strings_left = _MAX_STRINGS

    def wrong(self, what: str) -> FormatError:
        return FormatError(f"{self.file.path}: {what} (near byte {self.at})")

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.file.path}: {what} (near byte {self.at})")

    def need(self, size: int, what: str) -> None:
        left = len(self.file) - self.at
        if size > left:
            raise self.wrong(f"{what} needs {size} bytes and the file has {left} left; it is cut short or damaged")

    def number(self, kind: struct.Struct, what: str) -> Any:
        self.need(kind.size, what)
        value = kind.unpack_from(self.file.data.data, self.at)[0]
        self.at += kind.size
        return value

    def count(self, what: str, most: int, least_bytes: int) -> int:
        count: int = self.number(_U64, what)
        if count > most or count * least_bytes > len(self.file) - self.at:
            raise self.wrong(f"{what} {count} cannot be true of a file of {len(self.file)} bytes")
        return count

    def text(self, what: str, most: int) -> str:
        size: int = self.number(_U64, f"the length of {what}")
        if size > min(most, self.text_left):
            raise self.wrong(f"{what} is {size} bytes long; {most} are the most, and {_MAX_TEXT} for all together")
        self.need(size, what)
        self.text_left -= size
        raw = self.file.data[self.at : self.at + size].tobytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise self.wrong(f"{what} is not UTF-8: {error.reason}") from None
        self.at += size
        return text


def _version(cursor: _Cursor) -> int:
    cursor.need(4, "the magic")
    magic = cursor.file.data[:4].tobytes()
    if magic != MAGIC:
        raise cursor.wrong(f"a GGUF file begins with {MAGIC!r}, this one with {magic!r}")
    cursor.at = 4
    version: int = cursor.number(_U32, "the version")
    if version in (2, 3):
        return version
    if version and version & 0xFFFF == 0:
        raise cursor.unsupported("this GGUF file is big-endian; convert it to little-endian first")
    raise cursor.unsupported(f"GGUF version {version} is not read, only 2 and 3; convert the file with a current tool")


def _value_type(cursor: _Cursor, key: str) -> ValueType:
    number: int = cursor.number(_U32, f"the type of {key!r}")
    try:
        return ValueType(number)
    except ValueError:
        raise cursor.wrong(f"metadata key {key!r} has the unknown value type {number}") from None


def _value(cursor: _Cursor, key: str) -> tuple[ValueType, Any]:
    kind = _value_type(cursor, key)
    if kind is ValueType.STRING:
        return kind, cursor.text(f"the value of {key!r}", _MAX_TEXT)
    if kind is ValueType.ARRAY:
        return kind, _array(cursor, key)
    if kind is ValueType.BOOL:
        flag: int = cursor.number(SCALARS[ValueType.U8], f"the value of {key!r}")
        if flag > 1:
            raise cursor.wrong(f"metadata key {key!r} is a bool with the value {flag}")
        return kind, bool(flag)
    return kind, cursor.number(SCALARS[kind], f"the value of {key!r}")


def _array(cursor: _Cursor, key: str) -> NDArray[Any] | StringArray:
    kind = _value_type(cursor, key)
    if kind is ValueType.ARRAY:
        raise cursor.unsupported(f"metadata key {key!r} is an array of arrays, which llamero does not read")
    if kind is ValueType.STRING:
        count = cursor.count(f"the length of {key!r}", cursor.strings_left, 8)
        cursor.strings_left -= count
        spans, cursor.at = string_spans(cursor.file.data, cursor.at, count, f"{cursor.file.path}: {key}")
        return StringArray(cursor.file.data, spans, f"{cursor.file.path}: {key}")
    dtype = DTYPES[kind]
    most = _MAX_STRINGS if kind is ValueType.BOOL else len(cursor.file)
    count = cursor.count(f"the length of {key!r}", most, dtype.itemsize)
    raw = cursor.file.data[cursor.at : cursor.at + count * dtype.itemsize]
    if kind is ValueType.BOOL and raw.size and raw.max() > 1:
        raise cursor.wrong(f"metadata key {key!r} is an array of bools with other values than 0 and 1")
    cursor.at += raw.size
    values: NDArray[Any] = raw.view(dtype)
    return values


def _alignment(cursor: _Cursor, metadata: dict[str, Any], types: dict[str, ValueType]) -> int:
    key = "general.alignment"
    if key not in metadata:
        return 32
    alignment = metadata[key]
    if types[key] is not ValueType.U32 or alignment < 1 or alignment & (alignment - 1):
        raise cursor.wrong(f"{key} must be a U32 and a power of two, this is {types[key].name} {alignment!r}")
    return int(alignment)


def _tensors(cursor: _Cursor, count: int) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    tensors: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    for _ in range(count):
        name = cursor.text("a tensor name", _MAX_KEY)
        if name in tensors:
            raise cursor.wrong(f"tensor {name!r} is there twice")
        dims: int = cursor.number(_U32, f"the number of dimensions of {name!r}")
        if dims > 4:
            raise cursor.wrong(f"tensor {name!r} has {dims} dimensions; GGUF allows 4")
        shape = tuple(cursor.number(_U64, f"the dimensions of {name!r}") for _ in range(dims))[::-1]
        if 0 in shape:
            raise cursor.wrong(f"tensor {name!r} has a dimension of 0: {shape}")
        number: int = cursor.number(_U32, f"the type of {name!r}")
        offsets[name] = cursor.number(_U64, f"the offset of {name!r}")
        tensors[name] = _info(cursor, name, number, shape)
    return tensors, offsets


def _info(cursor: _Cursor, name: str, number: int, shape: Sequence[int]) -> TensorInfo:
    try:
        kind = block_type(number)
        kind.nbytes(shape)
    except UnsupportedError as error:
        raise cursor.unsupported(f"tensor {name!r}: {error}") from None
    except FormatError as error:
        raise cursor.wrong(f"tensor {name!r}: {error}") from None
    if math.prod(shape) > kind.values * len(cursor.file):
        raise cursor.wrong(f"tensor {name!r} of shape {tuple(shape)} is larger than the file")
    return TensorInfo(name, kind, tuple(shape))


def _placed(
    cursor: _Cursor, tensors: dict[str, TensorInfo], offsets: dict[str, int], data_start: int, alignment: int
) -> dict[str, int]:
    """Where each tensor begins, after checking that all lie in the file, aligned, and none on another."""
    starts: dict[str, int] = {}
    before, end = "", 0
    for name in sorted(offsets, key=offsets.__getitem__):
        offset, size = offsets[name], tensors[name].nbytes
        if offset % alignment:
            raise cursor.wrong(f"tensor {name!r} at offset {offset} is not aligned to {alignment}")
        if offset < end:
            raise cursor.wrong(f"tensor {name!r} at offset {offset} overlaps {before!r}, which ends at {end}")
        before, end = name, offset + size
        if data_start + end > len(cursor.file):
            raise cursor.wrong(
                f"tensor {name!r} ends at byte {data_start + end} of a file of {len(cursor.file)}; it is cut short"
            )
        starts[name] = data_start + offset
    return starts
