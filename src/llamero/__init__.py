"""llamero takes a Llama through its whole life. The public names, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamero.engine.sampling import Sampling
    from llamero.errors import (
        ConfigError,
        ContextOverflow,
        DeviceError,
        FormatError,
        LlameroError,
        ModelNotFound,
        SettingError,
        TemplateError,
        TokenizerError,
        UnsupportedError,
        WeightsError,
    )
    from llamero.interfaces.completion import Completion, Stream
    from llamero.interfaces.llama import Llama
    from llamero.training.pretraining import train

    __version__: str

_HOMES = {
    "Completion": "llamero.interfaces.completion",
    "Llama": "llamero.interfaces.llama",
    "Sampling": "llamero.engine.sampling",
    "Stream": "llamero.interfaces.completion",
    "train": "llamero.training.pretraining",
}

__all__ = [
    "Completion",
    "ConfigError",
    "ContextOverflow",
    "DeviceError",
    "FormatError",
    "Llama",
    "LlameroError",
    "ModelNotFound",
    "Sampling",
    "SettingError",
    "Stream",
    "TemplateError",
    "TokenizerError",
    "UnsupportedError",
    "WeightsError",
    "__version__",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'llamero' has no attribute {name!r}")
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("llamero")
    else:
        value = getattr(import_module(_HOMES.get(name, "llamero.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
