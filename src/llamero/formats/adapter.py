"""Opening an adapter's weights: a folder that PEFT saved, or a GGUF file. The bytes decide, not the name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from llamero.errors import FormatError, ModelNotFound, UnsupportedError
from llamero.formats.gguf import GGUF
from llamero.formats.jsontext import read_object
from llamero.formats.safetensors import Safetensors
from llamero.formats.tensor import Layout, Reader, Tensor, TensorInfo

_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"


class Peft:
    """An open folder of PEFT's. A `Reader` of layout "hf" whose metadata is adapter_config.json."""

    layout: Layout = "hf"

    def __init__(self, path: Path, config: Mapping[str, Any], file: Safetensors) -> None:
        self.path = path
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(config))
        self.tensors: Mapping[str, TensorInfo] = file.tensors
        self._file = file

    @classmethod
    def open(cls, folder: str | Path) -> Peft:
        """Open a folder. Raises ModelNotFound for a missing file, FormatError and UnsupportedError for bad ones."""
        folder = Path(folder)
        config = read_object(folder / _CONFIG)
        if not (folder / _WEIGHTS).is_file() and (folder / "adapter_model.bin").is_file():
            raise UnsupportedError(
                f"{folder} has its weights as a pickle (adapter_model.bin), which llamero does not read; load it with "
                "peft and save it with save_pretrained(folder), which writes safetensors"
            )
        if not (folder / _WEIGHTS).is_file():
            raise ModelNotFound(f"{folder} has no {_WEIGHTS}; fetch it beside {_CONFIG}")
        return cls(folder, config, Safetensors.open(folder / _WEIGHTS))

    def read(self, name: str) -> Tensor:
        """A tensor as a view of its file. Raises WeightsError when there is none of that name."""
        return self._file.read(name)

    def close(self) -> None:
        """Let go of the file. Tensors read before stay valid; nothing can be read any more."""
        self._file.close()


def open_adapter_file(path: str | Path) -> Reader:
    """Open a folder of PEFT's (or a file in it), or a GGUF file; whether it is an adapter of Llamas is not looked at.

    Raises ModelNotFound when nothing is there, FormatError for a broken file or one that is something else.
    """
    path = Path(path)
    if not path.exists():
        raise ModelNotFound(f"{path} is not there; give a folder that PEFT saved, or a GGUF adapter")
    if path.name in (_CONFIG, _WEIGHTS) and path.is_file():
        path = path.parent
    if path.is_dir():
        if not (path / _CONFIG).is_file():
            raise ModelNotFound(f"{path} has no {_CONFIG}: it is not an adapter that PEFT saved")
        return Peft.open(path)
    with path.open("rb") as file:
        head = file.read(4)
    if head in (b"GGUF", b"FUGG"):
        return GGUF.open(path)
    raise FormatError(f"{path} begins with {head!r}: it is no adapter; give a folder that PEFT saved, or a GGUF file")
