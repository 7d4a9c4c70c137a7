"""Reading GGUF, the single-file format of llama.cpp and its kin: metadata, then tensors, all memory-mapped.

Reads versions 2 and 3, little-endian, whole or split into `-00001-of-0000N.gguf` parts. Knows nothing of models: keys
and names pass through as they are. The bytes are parsed in gguf_parse.py, and written in gguf_write.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from llamero.errors import FormatError, ModelNotFound, UnsupportedError, WeightsError
from llamero.formats.gguf_parse import Header, parse_header
from llamero.formats.gguf_values import Typed, ValueType
from llamero.formats.gguf_write import write_gguf
from llamero.formats.mapped import Buffer, Mapped
from llamero.formats.tensor import Layout, Tensor, TensorInfo

__all__ = ["GGUF", "Typed", "ValueType", "write_gguf"]

_PART_NAME: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class GGUF:
    """An open GGUF file, or all parts of a split one. A `Reader` of layout "gguf".

    `metadata`: numbers, bools and strings as Python's own; arrays of numbers as read-only numpy views of the file;
    arrays of strings as `StringArray`, which decodes on access. `types` tells each key's exact GGUF type.
    """

    layout: Layout = "gguf"

    def __init__(self, path: Path, parts: list[tuple[Mapped, Header]]) -> None:
        self.path = path
        self._files = [file for file, _ in parts]
        first = parts[0][1]
        self.metadata: Mapping[str, Any] = MappingProxyType(first.metadata)
        self.types: Mapping[str, ValueType] = MappingProxyType(first.types)
        tensors: dict[str, TensorInfo] = {}
        self._places: dict[str, tuple[Mapped, int]] = {}
        for file, header in parts:
            for name, info in header.tensors.items():
                if name in tensors:
                    raise FormatError(f"{file.path}: tensor {name!r} is in an earlier part too")
                tensors[name] = info
                self._places[name] = file, header.starts[name]
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    @classmethod
    def open(cls, path: str | Path) -> GGUF:
        """Map a file; of a split model any part may be named, and all are opened.

        Raises ModelNotFound for a missing file or part, FormatError for a broken one, UnsupportedError for one that
        llamero cannot use.
        """
        path = Path(path)
        name = _PART_NAME.fullmatch(path.name)
        if name is None or not path.is_file():
            return cls(path, [_whole(Mapped.open(path))])
        count = int(name["count"])
        names = [path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
        for number, part in enumerate(names, 1):
            if not part.is_file():
                raise ModelNotFound(f"part {number} of {count} is missing: {part}; fetch it beside the others")
        if not names:
            raise FormatError(f"{path}: a model of 0 parts cannot be; rename the file")
        return cls.from_files(path, [Mapped.open(part) for part in names])

    @classmethod
    def from_files(cls, path: Path, files: Sequence[Mapped]) -> GGUF:
        """Read a model from its files, or all parts of a split one in their order, wherever they lie."""
        if len(files) == 1:
            return cls(path, [_whole(files[0])])
        parts = [_part(file, number, len(files)) for number, file in enumerate(files, 1)]
        _check_total(parts)
        return cls(path, parts)

    @property
    def files(self) -> tuple[Mapped, ...]:
        """The file, or the parts of a split one in their order."""
        return tuple(self._files)

    @classmethod
    def from_buffer(cls, buffer: Buffer, offset: int = 0, size: int | None = None, path: str = "<buffer>") -> GGUF:
        """Read a GGUF that lies inside a buffer, which is not copied and must outlive the reader."""
        file = Mapped.over(buffer, offset, size, Path(path))
        return cls(file.path, [_whole(file)])

    def read(self, name: str) -> Tensor:
        """A tensor as a view of the file. Raises WeightsError when there is none of that name."""
        if name not in self._places:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        file, start = self._places[name]
        info = self.tensors[name]
        return Tensor(info, file.data[start : start + info.nbytes])

    def typed_metadata(self) -> dict[str, Any]:
        """The metadata in a form that `write_gguf` writes with exactly the same types."""
        exact = (ValueType.ARRAY, ValueType.STRING, ValueType.BOOL)
        return {
            key: value if self.types[key] in exact else Typed(self.types[key], value)
            for key, value in self.metadata.items()
        }

    def close(self) -> None:
        """Let go of the file. Tensors and arrays read before stay valid; nothing can be read any more."""
        self._places.clear()
        for file in self._files:
            file.close()


def _whole(file: Mapped) -> tuple[Mapped, Header]:
    header = parse_header(file)
    count = header.metadata.get("split.count", 1)
    if isinstance(count, int) and count > 1:
        raise UnsupportedError(
            f"{file.path} is one of {count} parts of a split model; its name must end in -00001-of-{count:05}.gguf, "
            "with the other parts beside it"
        )
    return file, header


def _part(file: Mapped, number: int, count: int) -> tuple[Mapped, Header]:
    header = parse_header(file)
    said = header.metadata.get("split.no", 0), header.metadata.get("split.count", 1)
    if said != (number - 1, count):
        raise FormatError(f"{file.path}: split.no and split.count are {said}, the name says {(number - 1, count)}")
    return file, header


def _check_total(parts: list[tuple[Mapped, Header]]) -> None:
    file, header = parts[0]
    total = sum(len(part.tensors) for _, part in parts)
    said = header.metadata.get("split.tensors.count", total)
    if said != total:
        raise FormatError(f"{file.path}: split.tensors.count is {said}, the parts have {total} tensors")
