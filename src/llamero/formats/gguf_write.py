"""Writing GGUF version 3, whole or split, each file under its name only when complete. Knows nothing of models."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from llamero.errors import SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.gguf_values import Typed, ValueType, array_of, element_type, pack_scalar, type_of
from llamero.formats.lazy import StoredTensor, checked_data
from llamero.formats.strings import StringArray
from llamero.formats.tensor import TensorInfo

_MAX_NAME: Final = 63  # bytes; llama.cpp keeps names in a field of 64
_SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Iterable[StoredTensor],
    alignment: int | None = None,
    max_bytes: int | None = None,
    max_tensors: int | None = None,
) -> list[Path]:
    """Write a GGUF file -> the files written.

    metadata: Python values (`gguf_values.type_of` says what they become) or `Typed` ones, in the order of the file.
    tensors: written in their order, one at a time; a `LazyTensor` is made only when its turn comes.
    alignment: of every tensor's first byte; None takes `general.alignment` from the metadata, or 32.
    max_bytes, max_tensors: tensors for one part; when they do not fit, `stem-00001-of-0000N.gguf` parts are written,
    the first of which has the metadata. A part holds at least one tensor.

    Raises SettingError for metadata that GGUF cannot hold, two tensors of one name, or a name over 63 bytes;
    WeightsError when a tensor's bytes are not as many as its description says.
    """
    path = Path(path)
    listed = list(tensors)
    _check_names(tensor.info for tensor in listed)
    alignment = _alignment(metadata, alignment)
    metadata = {key: value for key, value in metadata.items() if key not in _SPLIT_KEYS}
    groups = _split(listed, alignment, max_bytes, max_tensors)
    if len(groups) == 1:
        _write_file(path, metadata, listed, alignment)
        return [path]
    written = []
    for number, group in enumerate(groups):
        part = path.with_name(f"{path.stem}-{number + 1:05}-of-{len(groups):05}.gguf")
        place = _place(number, len(groups), len(listed))
        _write_file(part, {**(metadata if number == 0 else {}), **place}, group, alignment)
        written.append(part)
    return written


def stream_gguf(file: BinaryIO, metadata: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> None:
    """Write a whole GGUF file into an open one, whose `tell` counts from where it begins. Raises as `write_gguf`."""
    listed = list(tensors)
    _check_names(tensor.info for tensor in listed)
    kept = {key: value for key, value in metadata.items() if key not in _SPLIT_KEYS}
    _write(file, kept, listed, _alignment(kept, None))


def _place(number: int, parts: int, tensors: int) -> dict[str, Typed]:
    values = Typed(ValueType.U16, number), Typed(ValueType.U16, parts), Typed(ValueType.I32, tensors)
    return dict(zip(_SPLIT_KEYS, values, strict=True))


def _check_names(infos: Iterable[TensorInfo]) -> None:
    seen: set[str] = set()
    for info in infos:
        if info.name in seen:
            raise SettingError(f"two tensors are named {info.name!r}")
        if not 0 < len(info.name.encode()) <= _MAX_NAME:
            raise SettingError(f"the tensor name {info.name!r} must be 1 to {_MAX_NAME} bytes long")
        if len(info.shape) > 4 or 0 in info.shape:
            raise SettingError(f"tensor {info.name!r}: GGUF cannot hold the shape {info.shape}")
        seen.add(info.name)


def _alignment(metadata: Mapping[str, Any], alignment: int | None) -> int:
    said = metadata.get("general.alignment")
    said = said.value if isinstance(said, Typed) else said
    chosen = said if alignment is None else alignment
    chosen = 32 if chosen is None else chosen
    if not isinstance(chosen, int) or chosen < 8 or chosen & (chosen - 1) or said not in (None, chosen):
        raise SettingError(f"alignment {alignment} and general.alignment {said} must be one power of two, 8 or more")
    return chosen


def _split(
    tensors: list[StoredTensor], alignment: int, max_bytes: int | None, max_tensors: int | None
) -> list[list[StoredTensor]]:
    groups: list[list[StoredTensor]] = [[]]
    size = 0
    for tensor in tensors:
        padded = -(-tensor.info.nbytes // alignment) * alignment
        full = max_tensors is not None and len(groups[-1]) >= max_tensors
        heavy = max_bytes is not None and size + padded > max_bytes
        if groups[-1] and (full or heavy):
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += padded
    return groups


def _write_file(path: Path, metadata: Mapping[str, Any], tensors: Sequence[StoredTensor], alignment: int) -> None:
    with atomic_file(path) as file:
        _write(file, metadata, tensors, alignment)


def _write(file: BinaryIO, metadata: Mapping[str, Any], tensors: Sequence[StoredTensor], alignment: int) -> None:
    if alignment != 32:
        metadata = {**metadata, "general.alignment": Typed(ValueType.U32, alignment)}
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head += [_string(key), *_value(key, value)]
    offset = 0
    for tensor in tensors:
        head.append(_described(tensor.info, offset))
        offset += -(-tensor.info.nbytes // alignment) * alignment
    file.writelines(head)
    _pad(file, alignment)
    for tensor in tensors:
        file.write(checked_data(tensor).data)
        _pad(file, alignment)


def _described(info: TensorInfo, offset: int) -> bytes:
    dims = info.shape[::-1]
    return _string(info.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, info.type.id, offset)


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: Any) -> list[bytes]:
    kind = type_of(value, key)
    value = value.value if isinstance(value, Typed) else value
    head = struct.pack("<I", kind)
    if kind is ValueType.STRING:
        return [head, _string(value)]
    if kind is ValueType.ARRAY:
        return [head, *_array(key, value)]
    return [head, pack_scalar(kind, value, key)]


def _array(key: str, value: Any) -> list[bytes]:
    array = array_of(value, key)
    head = struct.pack("<IQ", element_type(array, key), len(array))
    if isinstance(array, np.ndarray):
        return [head, array.tobytes()]
    if isinstance(array, StringArray):  # bytes as they are, valid UTF-8 or not
        return [head, *(_string(array.bytes_at(i)) for i in range(len(array)))]
    return [head, *(_string(item) for item in array)]
