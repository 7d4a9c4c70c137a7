"""A checkpoint's manifest.json: where the run stands, which tensors and files there are, and a checksum of each.

It is written last, so a folder with a manifest was whole once; the checksums say whether it still is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from llamero.errors import FormatError, LlameroError
from llamero.formats.jsontext import read_object, write_object

NAME: Final = "manifest.json"
_FORMAT: Final = 1
_PIECE: Final = 1 << 22  # bytes read at once


@dataclass(frozen=True)
class State:
    """Where a run stands beside its tensors.

    origin: the settings and data that the run was started with. memory: what else the run wants to know again, fit
    for JSON, such as what its guard has seen.
    """

    step: int  # steps done
    updates: int  # of them, how many changed the parameters
    origin: dict[str, Any]
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """One file of a checkpoint as it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself. tensors: the shape of each whole tensor. about: who wrote it, and how."""

    state: State
    tensors: Mapping[str, tuple[int, ...]]
    files: Mapping[str, File]
    about: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Put it into the folder, on the disk itself."""
        values = {"format": _FORMAT} | asdict(self.state) | {"tensors": dict(self.tensors)}
        values |= {"files": {name: asdict(file) for name, file in self.files.items()}, "about": dict(self.about)}
        write_object(folder / NAME, values | {"sha256": _digest(values)})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest in the folder. Raises ModelNotFound where there is none, FormatError for a broken one."""
        path = folder / NAME
        values = read_object(path)
        if values.get("format") != _FORMAT:
            raise FormatError(f"{path}: is of format {values.get('format')!r}; this version reads format {_FORMAT}")
        if values.pop("sha256", None) != _digest(values):
            raise FormatError(f"{path}: has changed since it was written (its checksum differs)")
        try:
            state = State(values["step"], values["updates"], dict(values["origin"]), dict(values["memory"]))
            tensors = {name: tuple(shape) for name, shape in values["tensors"].items()}
            files = {_plain(name): File(**file) for name, file in values["files"].items()}
            return cls(state, tensors, files, dict(values["about"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: is not the manifest of a checkpoint: {error!r}") from error

    def problems(self, folder: Path, names: Iterable[str]) -> list[str]:
        """What is wrong with some of the files, each in one sentence; empty where they are as they were written."""
        return [problem for name in names if (problem := _problem(folder / name, self.files[name]))]


def _plain(name: str) -> str:
    if not name.endswith(".safetensors") or Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a safetensors file in this folder")
    return name


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _problem(path: Path, expected: File) -> str:
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"{path.name} has {size} bytes instead of {expected.bytes}"
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    if digest.hexdigest() != expected.sha256:
        return f"{path.name} has changed since it was written (its checksum differs)"
    return ""


def problems(folder: Path, share: slice) -> list[str]:
    """What is wrong with a checkpoint, of whose files a share is looked at; an empty list if nothing is."""
    try:
        manifest = Manifest.read(folder)
    except LlameroError as error:
        return [str(error)]
    return manifest.problems(folder, sorted(manifest.files)[share])
