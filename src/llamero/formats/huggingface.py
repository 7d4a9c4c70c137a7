"""A Hugging Face model folder: config.json beside one safetensors file, or several with an index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from llamero.errors import FormatError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.jsontext import read_object, write_object
from llamero.formats.lazy import StoredTensor
from llamero.formats.safetensors import Safetensors, write_safetensors
from llamero.formats.tensor import Layout, Tensor, TensorInfo

_CONFIG: Final = "config.json"
_GENERATION: Final = "generation_config.json"
_WHOLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


class HuggingFace:
    """An open model folder. A `Reader` of layout "hf".

    metadata: config.json, with generation_config.json under the key "generation_config" where it exists.
    """

    layout: Layout = "hf"

    def __init__(self, path: Path, config: Mapping[str, Any], files: list[tuple[Safetensors, list[str]]]) -> None:
        self.path = path
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(config))
        self._files = [file for file, _ in files]
        self._places: dict[str, Safetensors] = {name: file for file, names in files for name in names}
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: file.tensors[name] for name, file in self._places.items()}
        )

    @classmethod
    def open(cls, folder: str | Path, weights: str | Path | None = None) -> HuggingFace:
        """Open a folder; `weights` names one safetensors file to take instead of those the folder lists.

        Raises ModelNotFound for a missing config, file or shard, FormatError and UnsupportedError for bad ones.
        """
        folder = Path(folder)
        config = read_object(folder / _CONFIG)
        if (folder / _GENERATION).is_file():
            config["generation_config"] = read_object(folder / _GENERATION)
        path = Path(weights) if weights is not None else folder / _WHOLE
        if path.is_file() or weights is not None:
            file = Safetensors.open(path)
            return cls(folder, config, [(file, list(file.tensors))])
        if (folder / _INDEX).is_file():
            return cls(folder, config, _shards(folder))
        raise _nothing_to_read(folder)

    def read(self, name: str) -> Tensor:
        """A tensor as a view of its file. Raises WeightsError when there is none of that name."""
        if name not in self._places:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        return self._places[name].read(name)

    def close(self) -> None:
        """Let go of the files. Tensors read before stay valid; nothing can be read any more."""
        self._places.clear()
        for file in self._files:
            file.close()


def _shards(folder: Path) -> list[tuple[Safetensors, list[str]]]:
    """The files that the index lists, each with the tensors to take from it."""
    index = folder / _INDEX
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise FormatError(f"{index}: weight_map must map every tensor to a file")
    files = []
    for shard in sorted(set(places.values())):
        if Path(shard).name != shard or shard in ("", ".", "..") or "\\" in shard or "\0" in shard:
            raise FormatError(f"{index}: {shard!r} is not the plain name of a file in the folder")
        if not (folder / shard).is_file():
            raise ModelNotFound(f"the shard {folder / shard} is missing; fetch it beside the others")
        file = Safetensors.open(folder / shard)
        # Like the field's loaders, take what a shard has beyond the index too, but never a tensor placed elsewhere.
        files.append((file, [name for name in file.tensors if places.get(name, shard) == shard]))
    found = {name for _, names in files for name in names}
    if lost := places.keys() - found:
        name = min(lost)
        raise FormatError(f"{index}: tensor {name!r} is not in {places[name]}")
    return files


def _nothing_to_read(folder: Path) -> Exception:
    if any(folder.glob("pytorch_model*.bin")):
        return UnsupportedError(
            f"{folder} has its weights as PyTorch pickles (pytorch_model*.bin), which llamero does not read; "
            "load it with transformers and save it with save_pretrained(folder), which writes safetensors"
        )
    return ModelNotFound(f"{folder} has neither {_WHOLE} nor {_INDEX}; fetch the weights into it")


def write_hf(
    folder: str | Path, config: Mapping[str, Any], tensors: Iterable[StoredTensor], shard_bytes: float = 5e9
) -> list[Path]:
    """Write a folder that `HuggingFace.open` and transformers read -> its weight files.

    config: becomes config.json; its key "generation_config", if any, becomes generation_config.json.
    tensors: under their Hugging Face names; one at a time is held in memory. Shards of at most `shard_bytes` (a
    larger tensor is a shard alone) with an index; one file without index when all fits. The weights of an
    earlier write in the same folder are deleted at the end.
    """
    if shard_bytes <= 0:
        raise SettingError(f"shard_bytes must be positive, not {shard_bytes}")
    folder = Path(folder)
    groups = _groups(tensors, shard_bytes)
    names = [_WHOLE]
    if len(groups) > 1:
        names = [f"model-{number + 1:05}-of-{len(groups):05}.safetensors" for number in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        write_safetensors(folder / name, group)
    if len(groups) > 1:
        _write_index(folder, names, groups)
    config = dict(config)
    generation = config.pop("generation_config", None)
    if generation is not None:
        write_object(folder / _GENERATION, generation)
    write_object(folder / _CONFIG, config)
    _delete_stale(folder, names)
    return [folder / name for name in names]


def _groups(tensors: Iterable[StoredTensor], shard_bytes: float) -> list[list[StoredTensor]]:
    groups: list[list[StoredTensor]] = [[]]
    size, seen = 0, set[str]()
    for tensor in tensors:
        if tensor.info.name in seen:
            raise SettingError(f"two tensors are named {tensor.info.name!r}")
        seen.add(tensor.info.name)
        if groups[-1] and size + tensor.info.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.info.nbytes
    return groups


def _write_index(folder: Path, names: list[str], groups: list[list[StoredTensor]]) -> None:
    total = sum(tensor.info.nbytes for group in groups for tensor in group)
    places = {tensor.info.name: name for name, group in zip(names, groups, strict=True) for tensor in group}
    write_object(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _delete_stale(folder: Path, kept: list[str]) -> None:
    """A loader prefers model.safetensors to an index, so what an earlier write left would be read instead."""
    for path in folder.iterdir():
        ours = path.name == _WHOLE or _SHARD.fullmatch(path.name) or (path.name == _INDEX and len(kept) == 1)
        if ours and path.name not in kept:
            path.unlink()
