"""Torch checkpoints (`.pth`, `.pt`): a ZIP archive of a pickle and raw storages, read and written without torch.

The pickle is read by unpickle.py, which can run nothing; the storages are memory-mapped. Reads what torch.save has
written since version 1.6; the older formats are named and refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, SettingError, UnsupportedError, WeightsError
from llamero.formats.blocks import BF16, F16, F32, F64, I8, I16, I32, I64, BlockType
from llamero.formats.lazy import StoredTensor, checked_data
from llamero.formats.mapped import Buffer, Mapped
from llamero.formats.tensor import Layout, Tensor, TensorInfo
from llamero.formats.unpickle import StoredView, unpickle
from llamero.formats.zipstore import stored_entries, write_stored

STORAGES: Final[Mapping[str, BlockType]] = MappingProxyType(
    {"FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16, "DoubleStorage": F64}
    | {"CharStorage": I8, "ShortStorage": I16, "IntStorage": I32, "LongStorage": I64}
)
"""Torch's storage classes that are read and written."""
_CLASSES: Final = MappingProxyType({kind.name: name for name, kind in STORAGES.items()})
_WRAPPERS: Final = ("model", "state_dict")


class Checkpoint:
    """An open torch checkpoint. A `Reader` of layout "meta" whose metadata is what it holds beside tensors.

    The tensors are those of its top dict, or of the dict "model" or "state_dict" in it.
    """

    layout: Layout = "meta"

    def __init__(self, file: Mapped) -> None:
        self.path = file.path
        self._file = file
        prefix, entries = _archive(file)
        first, size = entries[prefix + "data.pkl"]
        try:
            top = unpickle(file.data[first : first + size].tobytes())
        except UnsupportedError as error:
            raise UnsupportedError(f"{file.path}: {error}") from None
        except FormatError as error:
            raise FormatError(f"{file.path}: {error}") from None
        views, rest = _tensors_of(file, top)
        self.metadata: Mapping[str, Any] = MappingProxyType(rest)
        self._places = {name: _place(file, name, view, prefix, entries) for name, view in views.items()}
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: TensorInfo(name, place.type, place.view.shape) for name, place in self._places.items()}
        )

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Map a file. Raises ModelNotFound, FormatError or UnsupportedError."""
        return cls(Mapped.open(path))

    @classmethod
    def from_buffer(
        cls, buffer: Buffer, offset: int = 0, size: int | None = None, path: str = "<buffer>"
    ) -> Checkpoint:
        """Read a checkpoint that lies inside a buffer, which is not copied and must outlive the reader."""
        return cls(Mapped.over(buffer, offset, size, Path(path)))

    def read(self, name: str) -> Tensor:
        """A tensor as a view of the file; a copy where its rows are not in order. Raises WeightsError for no such."""
        if name not in self._places:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        return Tensor(self.tensors[name], self._places[name].bytes_of(self._file))

    def close(self) -> None:
        """Let go of the file. Tensors read before stay valid; nothing can be read any more."""
        self._places.clear()
        self._file.close()


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: `start`, the first byte of its storage in the file."""

    view: StoredView
    type: BlockType
    start: int

    def bytes_of(self, file: Mapped) -> NDArray[np.uint8]:
        size = self.type.size
        first = self.start + self.view.offset * size
        if _in_order(self.view):
            return file.data[first : first + math.prod(self.view.shape) * size]
        # The extent was checked, so the strided view stays in the storage.
        storage = file.data[first:]
        shape, strides = (*self.view.shape, size), (*(step * size for step in self.view.strides), 1)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage, shape, strides)).reshape(-1)


def _archive(file: Mapped) -> tuple[str, dict[str, tuple[int, int]]]:
    """The folder that all names in the archive begin with, and the archive's entries."""
    _refuse_older(file)
    entries = stored_entries(file)
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise FormatError(f"{file.path}: a torch checkpoint has one data.pkl, this archive has {len(pickles)}")
    prefix = pickles[0].removesuffix("data.pkl")
    if prefix + "constants.pkl" in entries:
        raise UnsupportedError(f"{file.path} is a TorchScript program, not weights; save its state_dict() instead")
    first, size = entries.get(prefix + "byteorder", (0, 0))
    if size and file.data[first : first + min(size, 16)].tobytes() != b"little":
        raise UnsupportedError(f"{file.path} was saved big-endian; save it again on a little-endian machine")
    return prefix, entries


def _refuse_older(file: Mapped) -> None:
    start = file.data[:512].tobytes()
    advice = "load it with torch and save it again with torch.save, whose format since version 1.6 is read"
    if start[:1] == b"\x80" and start[2:13] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P":
        raise UnsupportedError(f"{file.path} is in torch's format from before 1.6; {advice}")
    if start[257:262] == b"ustar":
        raise UnsupportedError(f"{file.path} is in torch's oldest format, a tar archive; {advice}")


def _tensors_of(file: Mapped, top: object) -> tuple[dict[str, StoredView], dict[str, Any]]:
    """The tensors by name, and the rest of the dict that holds them."""
    if not isinstance(top, dict):
        raise UnsupportedError(f"{file.path} holds a {type(top).__name__}, not a dict of tensors; save a state_dict()")
    for holder in (top, *(top[key] for key in _WRAPPERS if isinstance(top.get(key), dict))):
        views = {name: view for name, view in holder.items() if isinstance(view, StoredView)}
        if views:
            for name in views:
                if not isinstance(name, str):
                    raise FormatError(f"{file.path}: a tensor's name is a {type(name).__name__}, not a string")
            return views, {str(key): value for key, value in holder.items() if not isinstance(value, StoredView)}
    raise FormatError(f"{file.path}: there are no tensors in it, nor in its keys {' or '.join(_WRAPPERS)}")


def _place(file: Mapped, name: str, view: StoredView, prefix: str, entries: Mapping[str, tuple[int, int]]) -> _Place:
    where = f"{file.path}: tensor {name!r}"
    kind = STORAGES.get(view.storage.kind)
    if kind is None:
        raise UnsupportedError(f"{where} is a torch.{view.storage.kind}; convert it to BFloat16 or Half")
    key = f"{prefix}data/{view.storage.key}"
    if key not in entries:
        raise FormatError(f"{where}: its storage {key!r} is not in the archive")
    start, size = entries[key]
    if view.storage.count * kind.size > size:
        raise FormatError(f"{where}: its storage should hold {view.storage.count} numbers and has {size} bytes")
    count = math.prod(view.shape)
    extent = sum((length - 1) * step for length, step in zip(view.shape, view.strides, strict=True)) + 1 if count else 0
    if view.offset + extent > view.storage.count or count > view.storage.count:
        raise FormatError(f"{where} of shape {view.shape} reaches outside its storage of {view.storage.count} numbers")
    return _Place(view, kind, start)


def _in_order(view: StoredView) -> bool:
    """Whether the numbers lie row after row; the stride of a dimension of one does not matter."""
    expected = 1
    for length, step in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True


def write_pth(path: str | Path, tensors: Iterable[StoredTensor]) -> None:
    """Write a checkpoint that torch.load reads (also with weights_only=True): a dict of tensors.

    Raises SettingError for a type that torch lacks or two tensors of one name, WeightsError when a tensor's bytes
    are not as many as its description says. One tensor at a time is held in memory.
    """
    path = Path(path)
    listed = list(tensors)
    write_stored(path, _entries(path.stem, listed))


def _entries(prefix: str, tensors: list[StoredTensor]) -> Iterator[tuple[str, bytes | NDArray[np.uint8]]]:
    yield f"{prefix}/data.pkl", _pickled([tensor.info for tensor in tensors])
    yield f"{prefix}/byteorder", b"little"
    for number, tensor in enumerate(tensors):
        yield f"{prefix}/data/{number}", checked_data(tensor)
    yield f"{prefix}/version", b"3\n"


def _pickled(infos: list[TensorInfo]) -> bytes:
    """The pickle (protocol 2) of a dict of tensors, each the whole of the storage of its number."""
    parts = [b"\x80\x02}("]
    seen: set[str] = set()
    for number, info in enumerate(infos):
        if info.type.name not in _CLASSES:
            raise SettingError(f"tensor {info.name!r}: torch has no type {info.type.name}; decode it to F16 or BF16")
        if info.name in seen:
            raise SettingError(f"two tensors are named {info.name!r}")
        seen.add(info.name)
        strides = [math.prod(info.shape[at + 1 :]) for at in range(len(info.shape))]
        storage = f"ctorch\n{_CLASSES[info.type.name]}\n".encode() + _text(str(number)) + _text("cpu")
        parts += [_text(info.name), b"ctorch._utils\n_rebuild_tensor_v2\n(("]
        parts += [_text("storage"), storage, _whole(math.prod(info.shape)), b"tQ", _whole(0)]
        parts += [_tuple(info.shape), _tuple(strides), b"\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*parts, b"u."])


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _whole(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _tuple(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_whole, numbers)) + b"t"
