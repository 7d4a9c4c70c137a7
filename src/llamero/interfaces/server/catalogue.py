"""Which models a server may load, by name: what the operator named, and what lies in folders.

A name from a request is looked up and nothing else: no path is ever made of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from llamero.errors import LlameroError, ModelNotFound, SettingError, nearest
from llamero.interfaces.adapters import parse_source
from llamero.interfaces.models import find_model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}(:[A-Za-z0-9._-]{1,127})?")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_FIRST_PART = re.compile(r"-00001-of-\d{5}$")
_CONFIGS = ("config.json", "params.json")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that may be loaded: its name, where it lies, its LoRA adapters by name."""

    name: str
    path: Path
    adapters: Mapping[str, tuple[Path, float]] = field(default_factory=dict)  # and how strongly each is applied


class Catalogue:
    """Entries by name, the operator's first; those of folders are looked up anew, so files may come and go."""

    def __init__(self, entries: Sequence[Entry], folders: Sequence[Path] = ()) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise ModelNotFound(f"there is no folder of models {folder}")
        self._named: dict[str, Entry] = {}
        for entry in entries:
            if entry.name in self._named:
                raise SettingError(f"two models are called {entry.name!r}; give one another name: -m NAME=PATH")
            self._named[entry.name] = entry
        self._folders = tuple(folders)

    def entries(self) -> dict[str, Entry]:
        """All that may be asked for now, by name."""
        found = dict(self._named)
        for folder in self._folders:
            for path in filter(is_model, _inside(folder)):
                found.setdefault(name_of(path), Entry(name=name_of(path), path=path))
        return found

    def find(self, name: str) -> tuple[Entry, str | None]:
        """The entry of that name and, of MODEL:ADAPTER, the adapter. "" is the first model. Raises ModelNotFound."""
        entries = self.entries()
        if not entries:
            raise ModelNotFound("this server has no models; its folder of models is empty")
        if name == "":
            return next(iter(entries.values())), None
        if name in entries:
            return entries[name], None
        model, colon, adapter = name.rpartition(":")
        if colon and model in entries:
            adapters = entries[model].adapters
            if adapter in adapters:
                return entries[model], adapter
            hint = nearest(adapter, adapters) if adapters else "it has none"
            raise ModelNotFound(f"the model {model!r} has no adapter {adapter[:200]!r} here: {hint}")
        raise ModelNotFound(f"there is no model {name[:200]!r} here: {nearest(name[:200], self.names())}")

    def names(self) -> list[str]:
        """Models, each followed by its adapters as MODEL:ADAPTER."""
        entries = self.entries()
        return [name for model in entries.values() for name in (model.name, *_adapted(model))]


def parse_models(specs: Sequence[str | None], adapters: Sequence[str] = ()) -> list[Entry]:
    """Entries of what the command line says. An adapter's PATH may be PATH:SCALE.

    specs: a path, a pulled name, NAME=PATH, or None, the model inside. adapters: NAME=PATH, for the only model, or
    MODEL:NAME=PATH. Raises SettingError and ModelNotFound.
    """
    found = [_parse_model(spec) for spec in specs]
    for spec in adapters:
        name, equals, source = spec.partition("=")
        model, _, adapter = name.rpartition(":")
        if not equals or not adapter:
            raise SettingError(f"{spec!r} is no adapter: give NAME=PATH, or MODEL:NAME=PATH")
        if not model and len(found) != 1:
            raise SettingError(f"say which model the adapter {adapter!r} is for: MODEL:{adapter}=PATH")
        owner = next((entry for entry in found if entry.name == model), None) if model else found[0]
        if owner is None:
            hint = nearest(model, [entry.name for entry in found])
            raise SettingError(f"there is no model {model!r} for the adapter {adapter!r}: {hint}")
        if adapter in owner.adapters:
            raise SettingError(f"two adapters of {owner.name!r} are called {adapter!r}")
        path, scale = parse_source(source)
        if not (file := Path(path).expanduser()).exists():
            raise ModelNotFound(f"there is no adapter {path}")
        adapted = {**owner.adapters, _checked(adapter): (file, scale)}
        found[found.index(owner)] = replace(owner, adapters=adapted)
    return found


def is_model(path: Path) -> bool:
    """Whether a file or folder looks like a model; of one in several files, only the first."""
    try:
        if path.suffix == ".gguf" and path.is_file():
            return not _PART.search(path.stem) or bool(_FIRST_PART.search(path.stem))
        return any((path / name).is_file() for name in _CONFIGS)
    except OSError:
        return False


def name_of(path: Path) -> str:
    """What a model is called unless told otherwise: its file's name without the ending, its folder's name."""
    return _PART.sub("", path.stem) if path.suffix in (".gguf", ".bin") else path.name


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing while it cannot be read, as a disk that was taken away."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _parse_model(spec: str | None) -> Entry:
    if spec is None:
        path = find_model(None)
        return Entry(name=name_of(path), path=path)
    name, equals, where = spec.partition("=")
    if equals and not Path(spec).expanduser().exists():
        return Entry(name=_checked(name), path=find_model(where).absolute())
    try:
        path = find_model(spec).absolute()
    except LlameroError as error:
        raise ModelNotFound(f"{error} (or NAME=PATH)" if equals else str(error)) from error
    pulled = not Path(spec).expanduser().exists()
    return Entry(name=spec if pulled else name_of(path), path=path)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(f"{name!r} cannot name a model: use letters, digits, and . _ - / (not first)")
    return name


def _adapted(model: Entry) -> list[str]:
    return [f"{model.name}:{adapter}" for adapter in model.adapters]
