"""The adapters that a model is opened with: names, files, and how strongly each of them counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from llamero.engine.adapters import Adapters
from llamero.errors import SettingError
from llamero.formats.adapter import open_adapter_file
from llamero.formats.blocks import F16, F32, BlockType
from llamero.formats.tensor import Reader
from llamero.model.adapter import Adapter, Matrix, mix
from llamero.model.adapter_files import read_adapter
from llamero.model.config import Config
from llamero.model.weights import file_name

Source: TypeAlias = str | Path | tuple[str | Path, float]
"""A folder that PEFT saved or a GGUF adapter, and a factor for its changes (1 unless told)."""

_SCALED = re.compile(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)", re.DOTALL)
_MOST_F16 = 65504.0


def add_adapters(
    adapters: Adapters[Any, Any], sources: Mapping[str, Source | Sequence[Source]], config: Config, kind: BlockType
) -> None:
    """Read adapters and add them by name; several files under one name are mixed into one adapter.

    kind: the type of number to keep them as. Raises ModelNotFound, FormatError, WeightsError, SettingError.
    """
    for name, source in sources.items():
        parts = [source] if isinstance(source, (str, Path, tuple)) else list(source)
        if not parts:
            raise SettingError(f"adapter {name!r} has no file")
        mixed = mix([_read(part, config) for part in parts])
        adapters.add(name, mixed, F32 if kind is F16 and _too_large(mixed) else kind)


def kind_beside(reader: Reader) -> BlockType:
    """What adapters are kept as beside these weights: halves, unless the weights themselves are more than that."""
    name = file_name("layers.0.wq", reader.layout)
    return F32 if reader.tensors[name].type.name in ("F32", "F64") else F16


def parse_source(text: str) -> tuple[str, float]:
    """PATH or PATH:SCALE, as the command line has it; a file that is really named so comes first."""
    scaled = _SCALED.fullmatch(text)
    if scaled and not Path(text).exists():
        return scaled[1], float(scaled[2])
    return text, 1.0


def _read(source: Source, config: Config) -> tuple[Adapter[Matrix], float]:
    path, scale = source if isinstance(source, tuple) else (source, 1.0)
    reader = open_adapter_file(Path(path).expanduser())
    try:
        return read_adapter(reader, config), scale
    finally:
        reader.close()


def _too_large(adapter: Adapter[Matrix]) -> bool:
    """Whether a number of it is beyond what a half can hold."""
    return any(max(np.abs(change.a).max(), np.abs(change.b).max()) > _MOST_F16 for change in adapter.changes.values())
