"""A trained Llama as one GGUF file that everything can load: weights, vocabulary, chat format and who it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError
from llamero.formats.blocks import F32, BlockType
from llamero.formats.gguf_write import write_gguf
from llamero.formats.lazy import LazyTensor
from llamero.formats.tensor import Tensor
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import named_tensors

# "mostly this type", as GGUF numbers it (general.file_type)
_FILE_TYPES: Mapping[str, int] = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15,
    "Q5_K": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32,
}  # fmt: skip
_QUANTISATION_VERSION = 2


def export(
    path: Path,
    config: Config,
    arrays: Mapping[str, NDArray[np.float32]],
    about: Mapping[str, Any],
    kind: BlockType = F32,
) -> Path:
    """Write the model, matrices stored as `kind` and norms as F32.

    arrays: values by our names. about: more GGUF metadata, such as `Tokenizer.to_gguf()` and `general.name`.
    Raises SettingError for a type in which GGUF has no whole models, FormatError where rows are not whole blocks,
    WeightsError for values that are not finite.
    """
    check_kind(kind, config)
    general = {"general.type": "model", "general.file_type": _FILE_TYPES[kind.name]}
    if kind.values > 1:
        general["general.quantization_version"] = _QUANTISATION_VERSION
    write_gguf(path, config_to_gguf(config) | general | dict(about), _stored(config, arrays, kind))
    return path


def check_kind(kind: BlockType, config: Config) -> None:
    """Refuse a type in which a model of this shape cannot be stored. Raises SettingError, FormatError."""
    if kind.name not in _FILE_TYPES:
        raise SettingError(f"a model cannot be stored as {kind.name}; choose from {', '.join(_FILE_TYPES)}")
    for shape in config.shapes().values():
        if len(shape) > 1:
            kind.nbytes(shape)  # refuses rows that are not whole blocks


def _stored(
    config: Config, arrays: Mapping[str, NDArray[np.float32]], kind: BlockType
) -> Iterator[Tensor | LazyTensor]:
    for tensor in named_tensors(config, arrays, "gguf"):
        if len(tensor.info.shape) == 1 or kind is F32:
            yield tensor
        else:
            yield LazyTensor(replace(tensor.info, type=kind), partial(_encoded, tensor, kind))


def _encoded(tensor: Tensor, kind: BlockType) -> NDArray[np.uint8]:
    return kind.encode(tensor.decode())
