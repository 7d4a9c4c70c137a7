"""A run at one step, in one safetensors file: parameters, both moments of AdamW, and what made them.

The file takes its name only when it is whole, so a run that dies while saving keeps the checkpoint before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor as TorchTensor

from llamero.errors import FormatError
from llamero.formats.blocks import F32
from llamero.formats.safetensors import Safetensors, write_safetensors
from llamero.formats.tensor import Tensor, TensorInfo

_FILE = "checkpoint.safetensors"
_MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}  # our names and torch's


@dataclass(frozen=True)
class State:
    """Where a run stands beside its tensors. origin: the settings and data that the run was started with."""

    step: int  # steps done
    updates: int  # of them, how many changed the parameters
    origin: dict[str, Any]
    guard: list[list[float]] = field(default_factory=list)  # what the guard remembers


def exists(folder: Path) -> bool:
    """Whether a run was saved in this folder."""
    return (folder / _FILE).is_file()


def save(folder: Path, state: State, parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> Path:
    """Write the run's checkpoint, replacing an older one at once."""
    metadata = {"step": str(state.step), "updates": str(state.updates), "origin": json.dumps(state.origin)}
    metadata["guard"] = json.dumps(state.guard)
    path = folder / _FILE
    write_safetensors(path, _stored(parameters, optimizer), metadata)
    return path


def restore(folder: Path, parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> State:
    """Read the checkpoint into the parameters and the optimiser, in place.

    A run that changed its optimiser takes the moments along that both keep; others begin at zero.
    Raises FormatError for a broken file or one of another model; then nothing was changed.
    """
    path = folder / _FILE
    with closing(Safetensors.open(path)) as file:
        state = _state(file)
        _check_model(file, parameters)
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(_read(file, f"weights.{name}"))
            slot = optimizer.state[parameter]
            slot["step"] = torch.tensor(float(state.updates), device=parameter.device)
            for ours, theirs in _MOMENTS.items():
                kept = f"{ours}.{name}" in file.tensors
                slot[theirs] = (
                    _read(file, f"{ours}.{name}").to(parameter.device) if kept else torch.zeros_like(parameter)
                )
    return state


def _check_model(file: Safetensors, parameters: Mapping[str, TorchTensor]) -> None:
    """Refuse a file whose weights, or moments where it has them, are not shaped as the parameters."""
    wanted = {f"weights.{name}": tuple(value.shape) for name, value in parameters.items()}
    moments = {f"{kind}.{name}": tuple(value.shape) for kind in _MOMENTS for name, value in parameters.items()}
    found = {name: info.shape for name, info in file.tensors.items()}
    known = wanted | {name: shape for name, shape in moments.items() if name in found}
    if found != known:
        odd = sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name))
        raise FormatError(f"{file.path}: is of another model: {len(odd)} tensors differ, such as {odd[0]}")


def _stored(parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for name, parameter in parameters.items():
        yield _tensor(f"weights.{name}", parameter)
        for ours, theirs in _MOMENTS.items():
            if theirs in optimizer.state[parameter]:
                yield _tensor(f"{ours}.{name}", optimizer.state[parameter][theirs])


def _tensor(name: str, value: TorchTensor) -> Tensor:
    array = np.ascontiguousarray(value.detach().float().cpu().numpy())
    return Tensor(TensorInfo(name, F32, array.shape), array.reshape(-1).view(np.uint8))


def _read(file: Safetensors, name: str) -> TorchTensor:
    return torch.from_numpy(file.read(name).decode())


def _state(file: Safetensors) -> State:
    try:
        origin, guard = json.loads(file.metadata["origin"]), json.loads(file.metadata.get("guard", "[]"))
        return State(int(file.metadata["step"]), int(file.metadata["updates"]), dict(origin), guard)
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{file.path}: is not a checkpoint of a run: {error!r}") from error
