"""A run at one step, as a folder of safetensors files: parameters, both moments of AdamW, and what made them.

    RUN/checkpoints/step-00000500/
        shard-00001-model-00001-of-00001.safetensors    of each process, the parts of tensors that it held
        manifest.json                                   written last, see manifest.py

One layout for one process and many. Where a part lies in its tensor stands in its file as torch's distributed
checkpoint has it (`HuggingFaceStorageReader` reads these folders), so any process can read any part of a tensor,
whoever wrote it. Nothing is ever unpickled. Who writes such folders, and when, is saver.py's matter.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor

from llamero.errors import FormatError
from llamero.formats.jsontext import parse_object
from llamero.formats.safetensors import Safetensors, write_safetensors
from llamero.training.checkpoints.manifest import File, Manifest, State, problems
from llamero.training.checkpoints.pieces import Piece, Place, Stored, fill, first_holder, joined
from llamero.training.muon import moments
from llamero.training.team.team import Alone, Team

_MOMENTS: Final = {"first": "exp_avg", "second": "exp_avg_sq"}  # our names and torch's
_STEP: Final = re.compile(r"step-(\d{8,})")
_OFFSETS: Final = "DCP_SHARDING_INFO"  # torch's key: {tensor: {"saved_offsets": [...]}}


def folder_name(step: int) -> str:
    """The name of a step's folder."""
    return f"step-{step:08}"


def steps(folder: Path) -> list[int]:
    """The steps saved in a run's folder of checkpoints, the newest first; whether they are whole is not asked."""
    found = (_STEP.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted((int(match[1]) for match in found if match), reverse=True)


def newest_whole(
    folder: Path, team: Team | None = None, warn: Callable[[str], object] = warnings.warn
) -> Checkpoint | None:
    """The newest checkpoint in a run's folder of checkpoints that is as it was written, None if there is none at all.

    Every byte is read; the processes of a team share the work. Of newer ones that are broken `warn` is told what is
    wrong with them. Raises FormatError where all are broken.
    """
    team = team or Alone()
    broken: list[str] = []
    for step in json.loads(team.exchange(json.dumps(steps(folder)))[0]):
        path = folder / folder_name(step)
        own = problems(path, slice(team.process, None, team.processes))
        found = [problem for text in team.exchange(json.dumps(own)) for problem in json.loads(text)]
        if not found:
            if broken and team.lead:
                warn(f"going on from {path}, because a newer checkpoint is broken: {'; '.join(broken)}")
            return Checkpoint(path, Manifest.read(path))
        broken.append(f"{path}: {found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else ""))
    if broken:
        raise FormatError(
            f"no checkpoint of this run is whole; bring one back from a copy, or move {folder} away to begin anew: "
            + "; ".join(broken)
        )
    return None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to read from."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """The checkpoint in this folder, its files not yet looked at. Raises ModelNotFound, FormatError."""
        return cls(path, Manifest.read(path))

    @property
    def state(self) -> State:
        return self.manifest.state

    def restore(self, parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> None:
        """Fill the parameters and the optimiser, in place; each process reads only what it holds.

        A run that changed its optimiser takes the moments along that both keep; others begin at zero.
        Raises FormatError for a broken file or one of another model; of the latter nothing is changed.
        """
        self._check_model(parameters)
        parts, remembered = self._parts(), dict(moments(optimizer))
        for name, parameter in parameters.items():
            fill(parameter, parts[f"weights.{name}"], name)
            slot = optimizer.state[parameter]
            slot["step"] = torch.tensor(float(self.state.updates), device=parameter.device)
            for ours, theirs in _MOMENTS.items():
                if theirs not in remembered[parameter]:
                    continue
                slot[theirs] = torch.zeros_like(parameter, requires_grad=False)
                if f"{ours}.{name}" in self.manifest.tensors:
                    fill(slot[theirs], parts[f"{ours}.{name}"], f"{ours}.{name}")

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters by our names, whole, as float32."""
        parts = self._parts()
        wanted = {name: shape for name, shape in self.manifest.tensors.items() if name.startswith("weights.")}
        return {name.removeprefix("weights."): joined(shape, parts[name], name) for name, shape in wanted.items()}

    def _check_model(self, parameters: Mapping[str, TorchTensor]) -> None:
        """Refuse weights, or moments where there are some, that are not shaped as the parameters."""
        wanted = {f"weights.{name}": tuple(value.shape) for name, value in parameters.items()}
        moments = {f"{kind}.{name}": tuple(value.shape) for kind in _MOMENTS for name, value in parameters.items()}
        found = dict(self.manifest.tensors)
        known = wanted | {name: shape for name, shape in moments.items() if name in found}
        if found != known:
            odd = sorted(name for name in known.keys() | found.keys() if known.get(name) != found.get(name))
            raise FormatError(f"{self.path}: is of another model: {len(odd)} tensors differ, such as {odd[0]}")

    def _parts(self) -> Mapping[str, list[Stored]]:
        """All stored parts of each tensor, mapped and not yet read."""
        parts: dict[str, list[Stored]] = defaultdict(list)
        for name in self.manifest.files:
            with closing(Safetensors.open(self.path / name)) as file:
                offsets = _offsets(file)
                for tensor, info in file.tensors.items():
                    parts[tensor].append(Stored(Place(offsets[tensor], info.shape), file.read(tensor)))
        return parts


def pieces(parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> list[Piece]:
    """Copies, in the host's memory, of what this process is the one to store."""
    tensors = {f"weights.{name}": parameter.detach() for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        slot = optimizer.state[parameter]
        tensors |= {f"{ours}.{name}": slot[theirs] for ours, theirs in _MOMENTS.items() if theirs in slot}
    held = (Piece.copied(name, tensor) for name, tensor in tensors.items() if first_holder(tensor))
    return [piece for piece in held if piece.place.size]


def write_pieces(folder: Path, process: int, held: Sequence[Piece]) -> dict[str, Any]:
    """Write one process's file; return what the manifest is to say of it, fit for JSON."""
    if not held:
        return {"files": {}, "tensors": {}}
    name = f"shard-{process + 1:05}-model-00001-of-00001.safetensors"
    offsets = {piece.name: {"saved_offsets": list(piece.place.offsets)} for piece in held}
    metadata = {"format": "pt", "DCP_VERSION": "1.0", _OFFSETS: json.dumps(offsets)}
    digest = hashlib.sha256()
    write_safetensors(folder / name, (piece.stored() for piece in held), metadata, digest)
    size = (folder / name).stat().st_size
    return {
        "files": {name: {"bytes": size, "sha256": digest.hexdigest()}},
        "tensors": {piece.name: list(piece.whole) for piece in held},
    }


def manifest_of(state: State, written: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> Manifest:
    """The manifest of what all processes wrote."""
    files: dict[str, File] = {}
    tensors: dict[str, tuple[int, ...]] = {}
    for each in written:
        files |= {name: File(**file) for name, file in each["files"].items()}
        tensors |= {name: tuple(shape) for name, shape in each["tensors"].items()}
    return Manifest(state, tensors, files, about)


def _offsets(file: Safetensors) -> dict[str, tuple[int, ...]]:
    """Where each tensor of a file lies in the whole; at the beginning where nothing is said."""
    found = {name: (0,) * len(info.shape) for name, info in file.tensors.items()}
    try:
        said = parse_object(file.metadata.get(_OFFSETS, "{}").encode(), f"{file.path}: {_OFFSETS}")
        for name, entry in said.items():
            offsets = tuple(int(at) for at in entry["saved_offsets"])
            if len(offsets) != len(found[name]) or min(offsets, default=0) < 0:
                raise ValueError(f"{name} cannot begin at {offsets}")
            found[name] = offsets
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{file.path}: {_OFFSETS} is broken: {error}") from error
    return found
