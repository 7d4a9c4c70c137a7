"""Safetensors: a JSON header, then the tensors' bytes without gaps. Read memory-mapped, written one at a time."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from llamero.errors import FormatError, SettingError, UnsupportedError, WeightsError
from llamero.formats.atomic import atomic_file
from llamero.formats.blocks import BF16, F16, F32, F64, I8, I16, I32, I64, BlockType
from llamero.formats.jsontext import parse_object
from llamero.formats.lazy import StoredTensor, checked_data
from llamero.formats.mapped import Buffer, Mapped
from llamero.formats.tensor import Layout, Tensor, TensorInfo

DTYPES: Final[Mapping[str, BlockType]] = MappingProxyType(
    {kind.name: kind for kind in (F32, F16, BF16, F64, I8, I16, I32, I64)}
)
"""The dtype names that are read and written; they are the block types' own."""

_MAX_HEADER: Final = 1 << 25  # a description is about 100 bytes; the reference implementation stops at 10^8
_MAX_DIMS: Final = 8
_MAX_NAME: Final = 1024


class Safetensors:
    """An open safetensors file. A `Reader` of layout "hf" whose metadata is the header's `__metadata__`."""

    layout: Layout = "hf"

    def __init__(self, file: Mapped) -> None:
        self.path = file.path
        self._file = file
        header, data_start = _header(file)
        self.metadata: Mapping[str, Any] = MappingProxyType(_string_metadata(file, header))
        tensors: dict[str, TensorInfo] = {}
        self._starts: dict[str, int] = {}
        for name, entry in header.items():
            tensors[name], start = _entry(file, name, entry)
            self._starts[name] = data_start + start
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        _check_gapless(file, tensors, self._starts, data_start)

    @classmethod
    def open(cls, path: str | Path) -> Safetensors:
        """Map a file. Raises ModelNotFound, FormatError or UnsupportedError."""
        return cls(Mapped.open(path))

    @classmethod
    def from_buffer(
        cls, buffer: Buffer, offset: int = 0, size: int | None = None, path: str = "<buffer>"
    ) -> Safetensors:
        """Read safetensors that lie inside a buffer, which is not copied and must outlive the reader."""
        return cls(Mapped.over(buffer, offset, size, Path(path)))

    def read(self, name: str) -> Tensor:
        """A tensor as a view of the file. Raises WeightsError when there is none of that name."""
        if name not in self._starts:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        info, start = self.tensors[name], self._starts[name]
        return Tensor(info, self._file.data[start : start + info.nbytes])

    def close(self) -> None:
        """Let go of the file. Tensors read before stay valid; nothing can be read any more."""
        self._starts.clear()
        self._file.close()


def _header(file: Mapped) -> tuple[dict[str, Any], int]:
    """The header, and the byte at which the data begins."""
    if len(file) < 8:
        raise FormatError(f"{file.path}: {len(file)} bytes are too few for a safetensors file; it is cut short")
    size: int = struct.unpack_from("<Q", file.data.data)[0]
    if size > min(_MAX_HEADER, len(file) - 8):
        raise FormatError(f"{file.path}: a header of {size} bytes cannot be in a safetensors file of {len(file)}")
    return parse_object(file.data[8 : 8 + size].tobytes(), f"{file.path}: the header"), 8 + size


def _string_metadata(file: Mapped, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{file.path}: __metadata__ must map strings to strings")
    return metadata


def _entry(file: Mapped, name: str, entry: object) -> tuple[TensorInfo, int]:
    """A tensor's description and its first byte within the data."""
    if len(name) > _MAX_NAME:
        raise FormatError(f"{file.path}: the tensor name {name[:80]!r}... has {len(name)} characters")
    where = f"{file.path}: tensor {name!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: its entry must have dtype, shape and data_offsets, nothing else")
    shape, offsets, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not _counts(shape) or len(shape) > _MAX_DIMS:
        raise FormatError(f"{where}: the shape must be a list of at most {_MAX_DIMS} sizes")
    if not _counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{where}: data_offsets must be two byte counts")
    kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None:
        known = ", ".join(DTYPES)
        raise UnsupportedError(f"{where}: dtype {dtype!r} is not supported (only {known}); convert it to BF16 or F16")
    info = TensorInfo(name, kind, tuple(shape))
    if info.nbytes != offsets[1] - offsets[0]:
        raise FormatError(f"{where}: {dtype} of shape {shape} takes {info.nbytes} bytes, data_offsets say {offsets}")
    return info, offsets[0]


def _counts(value: object) -> bool:
    """Whether this is a list of whole numbers of 63 bits, none negative and none a bool."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_gapless(file: Mapped, tensors: dict[str, TensorInfo], starts: dict[str, int], data_start: int) -> None:
    end = data_start
    for name in sorted(starts, key=lambda name: (starts[name], tensors[name].nbytes)):
        if starts[name] != end:
            what = "overlaps the one before" if starts[name] < end else "leaves a hole before it"
            raise FormatError(f"{file.path}: tensor {name!r} at byte {starts[name]} {what}, which ends at {end}")
        end += tensors[name].nbytes
    if end != len(file):
        what = "is cut short" if end > len(file) else "has bytes that belong to no tensor"
        raise FormatError(f"{file.path}: the tensors end at byte {end} of {len(file)}: the file {what}")


class Digest(Protocol):
    """A checksum in the making, such as `hashlib.sha256()`."""

    def update(self, data: bytes | memoryview, /) -> None: ...


def write_safetensors(
    path: str | Path,
    tensors: Iterable[StoredTensor],
    metadata: Mapping[str, str] | None = None,
    digest: Digest | None = None,
) -> None:
    """Write a safetensors file, larger numbers first so that each tensor is aligned.

    metadata: strings for `__metadata__`; default {"format": "pt"}, which loaders ask for. digest: is given every byte.
    Raises SettingError for a type that safetensors lacks or two tensors of one name, WeightsError when a tensor's
    bytes are not as many as its description says.
    """
    ordered = sorted(tensors, key=lambda tensor: -tensor.info.type.size)
    header = _described([tensor.info for tensor in ordered], {"format": "pt"} if metadata is None else metadata)
    with atomic_file(Path(path)) as file:
        for part in chain([struct.pack("<Q", len(header)) + header], (_bytes(each) for each in ordered)):
            file.write(part)
            if digest is not None:
                digest.update(part)


def _bytes(tensor: StoredTensor) -> bytes | memoryview:
    return checked_data(tensor).data


def _described(infos: Sequence[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for info in infos:
        if info.type.name not in DTYPES:
            raise SettingError(
                f"tensor {info.name!r}: safetensors has no type {info.type.name}; decode it to F16 or BF16"
            )
        if info.name in header:
            raise SettingError(f"two tensors are named {info.name!r}, or it is a reserved name")
        end = at + math.prod(info.shape) * info.type.size
        header[info.name] = {"dtype": info.type.name, "shape": list(info.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)
