"""A stored tensor, and the one shape of reader that every format fills in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llamero.formats.blocks import BlockType

Layout = Literal["gguf", "hf", "meta"]
"""Whose tensor names, Q/K row order and metadata keys a file uses."""


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor, without its data.

    `shape` is row-major as in numpy and torch: (rows, columns) of a matrix; the columns are contiguous.
    """

    name: str
    type: BlockType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Stored size in bytes."""
        return self.type.nbytes(self.shape)


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its description and its raw bytes, usually a view of the mapped file."""

    info: TensorInfo
    data: NDArray[np.uint8]  # (nbytes,)

    def decode(self) -> NDArray[np.float32]:
        """The values as float32, in the tensor's shape (a copy)."""
        return self.info.type.decode(self.data).reshape(self.info.shape)


class Reader(Protocol):
    """An open model file or folder.

    `metadata` holds what the file says beside its tensors: GGUF keys, `config.json`, or `params.json`.
    Reading a tensor maps or joins it only then; nothing is decoded.
    """

    @property
    def path(self) -> Path: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    def read(self, name: str) -> Tensor: ...
    def close(self) -> None: ...
