"""A folder as Meta publishes it: params.json and one or more model-parallel shards `consolidated.NN.pth`.

A matrix is cut over the shards by its outputs or its inputs, depending on its name; reading a tensor joins it.
Knows the names that decide the cut and nothing else of models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound, SettingError, WeightsError
from llamero.formats.jsontext import read_object, write_object
from llamero.formats.lazy import LazyTensor, StoredTensor
from llamero.formats.pth import Checkpoint, write_pth
from llamero.formats.tensor import Layout, Tensor, TensorInfo

_PARAMS: Final = "params.json"
_SHARD: Final = re.compile(r"consolidated(?:\.(\d+))?\.pth")
_EMBEDDING: Final = "tok_embeddings.weight"
_BY_ROWS: Final = re.compile(r"(.*\.attention\.w[qkv]|.*\.feed_forward\.w[13]|output)\.weight")
_BY_COLUMNS: Final = re.compile(r"(.*\.attention\.wo|.*\.feed_forward\.w2)\.weight")
_IGNORED: Final = "rope.freqs"


class Meta:
    """An open folder of Meta's. A `Reader` of layout "meta" whose metadata is params.json.

    `rope.freqs`, which some checkpoints carry, is left out: it follows from params.json.
    """

    layout: Layout = "meta"

    def __init__(self, path: Path, params: Mapping[str, Any], shards: list[Checkpoint]) -> None:
        self.path = path
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(params))
        self._shards = shards
        first = shards[0].tensors
        for shard in shards[1:]:
            _check_alike(first, shard)
        self._cuts = {name: _cut(info, len(shards), params) for name, info in first.items() if name != _IGNORED}
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: _joined(first[name], cut, len(shards)) for name, cut in self._cuts.items()}
        )
        _check_complete(path, self.tensors, params, len(shards))

    @classmethod
    def open(cls, folder: str | Path) -> Meta:
        """Open a folder. Raises ModelNotFound for a missing params.json or shard, FormatError, UnsupportedError."""
        folder = Path(folder)
        params = read_object(folder / _PARAMS)
        return cls(folder, params, [Checkpoint.open(path) for path in _shard_paths(folder)])

    def read(self, name: str) -> Tensor:
        """A tensor: a view of the only shard, or joined from all. Raises WeightsError for a name that is not there."""
        if name not in self._cuts:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        info, cut = self.tensors[name], self._cuts[name]
        if cut is None or len(self._shards) == 1:
            return Tensor(info, self._shards[0].read(name).data)
        parts = [shard.read(name) for shard in self._shards]
        if cut == 0:
            return Tensor(info, np.concatenate([part.data for part in parts]))
        rows = [part.data.reshape(info.shape[0], -1) for part in parts]
        return Tensor(info, np.concatenate(rows, axis=1).reshape(-1))

    def close(self) -> None:
        """Let go of the files. Tensors read before stay valid; nothing can be read any more."""
        self._cuts.clear()
        for shard in self._shards:
            shard.close()


def _shard_paths(folder: Path) -> list[Path]:
    found = {}
    for path in folder.iterdir():
        if name := _SHARD.fullmatch(path.name):
            found[int(name[1] or 0)] = path
    if not found:
        raise ModelNotFound(f"{folder} has {_PARAMS} but no consolidated.00.pth; fetch the weights into it")
    for number in range(max(found) + 1):
        if number not in found:
            last = found[max(found)].name
            raise ModelNotFound(f"{folder / f'consolidated.{number:02}.pth'} is missing; {last} is there")
    return [found[number] for number in range(len(found))]


def _check_alike(first: Mapping[str, TensorInfo], shard: Checkpoint) -> None:
    if lost := first.keys() ^ shard.tensors.keys():
        raise FormatError(f"{shard.path}: tensor {min(lost)!r} is in this shard or in the first, but not in both")
    for name, info in shard.tensors.items():
        if info != first[name]:
            raise FormatError(
                f"{shard.path}: tensor {name!r} is {info.type.name} {info.shape}, in the first shard it is "
                f"{first[name].type.name} {first[name].shape}"
            )


def _cut(info: TensorInfo, shards: int, params: Mapping[str, Any]) -> Literal[0, 1] | None:
    """The dimension that a tensor is cut along; None for one that every shard holds whole."""
    if len(info.shape) != 2:
        return None
    if info.name == _EMBEDDING:
        # Llama 1 and 2 cut the embedding by columns, Llama 3 by rows.
        return 1 if info.shape[1] * shards == params.get("dim") else 0
    if _BY_ROWS.fullmatch(info.name):
        return 0
    return 1 if _BY_COLUMNS.fullmatch(info.name) else None


def _joined(info: TensorInfo, cut: Literal[0, 1] | None, shards: int) -> TensorInfo:
    if cut is None:
        return info
    rows, columns = info.shape
    return TensorInfo(info.name, info.type, (rows * shards, columns) if cut == 0 else (rows, columns * shards))


def _check_complete(path: Path, tensors: Mapping[str, TensorInfo], params: Mapping[str, Any], shards: int) -> None:
    """The embedding shows when shards at the end are missing, which their numbers cannot."""
    dim, vocab = params.get("dim"), params.get("vocab_size")
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise FormatError(f"{path / _PARAMS}: dim must be a positive number, not {dim!r}")
    if _EMBEDDING not in tensors:
        return
    if len(tensors[_EMBEDDING].shape) != 2 or 0 in tensors[_EMBEDDING].shape:
        raise FormatError(f"{path}: {_EMBEDDING} must be a matrix, its shape is {tensors[_EMBEDDING].shape}")
    rows, columns = tensors[_EMBEDDING].shape
    if columns != dim and dim % columns == 0:
        raise ModelNotFound(f"{path} has {shards} shards of {dim // columns}: fetch the other consolidated.*.pth")
    if isinstance(vocab, int) and vocab > rows and vocab % rows == 0:
        raise ModelNotFound(
            f"{path} has {shards} shards of {vocab // rows * shards}: fetch the other consolidated.*.pth"
        )


def write_meta(
    folder: str | Path,
    params: Mapping[str, Any],
    tensors: Iterable[StoredTensor],
    shards: int = 1,
    embedding_cut: Literal[0, 1] = 0,
) -> list[Path]:
    """Write a folder as Meta does -> its shards.

    tensors: under Meta's names. shards: how many, for as many processes of Meta's own code.
    embedding_cut: 0 as Llama 3 cuts tok_embeddings, by rows; 1 as Llama 1 and 2 do, by columns.
    Raises SettingError when a tensor cannot be cut into that many equal parts.
    """
    folder = Path(folder)
    listed = list(tensors)
    if shards < 1:
        raise SettingError(f"shards must be at least 1, not {shards}")
    paths = [folder / f"consolidated.{number:02}.pth" for number in range(shards)]
    for number, path in enumerate(paths):
        write_pth(path, [_part(tensor, number, shards, embedding_cut) for tensor in listed])
    write_object(folder / _PARAMS, params)
    for path in folder.iterdir():
        if _SHARD.fullmatch(path.name) and path not in paths:
            path.unlink()  # of an earlier write with more shards
    return paths


def _part(tensor: StoredTensor, number: int, shards: int, embedding_cut: Literal[0, 1]) -> StoredTensor:
    """One shard's part of a tensor, made when it is written."""
    info = tensor.info
    cut = embedding_cut if info.name == _EMBEDDING else _cut(info, shards, {})
    if shards == 1 or cut is None:
        return tensor
    if info.shape[cut] % shards:
        raise SettingError(f"tensor {info.name!r} of shape {info.shape} cannot be cut into {shards} equal parts")
    shape = tuple(size // shards if at == cut else size for at, size in enumerate(info.shape))

    def load() -> NDArray[np.uint8]:
        rows = tensor.data.reshape(info.shape[0], -1)
        part = np.split(rows, shards, axis=cut)[number]
        return np.ascontiguousarray(part).reshape(-1)

    return LazyTensor(TensorInfo(info.name, info.type, shape), load)
