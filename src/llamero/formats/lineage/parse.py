"""The JSON of a lineage read back, from whoever may have written it: strict, and within bounds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamero.errors import FormatError, nearest
from llamero.formats.jsontext import parse_object
from llamero.formats.lineage.record import (
    MOST_ANCESTORS,
    MOST_BYTES,
    MOST_FILES,
    MOST_PARENTS,
    VERSION,
    Digest,
    Lineage,
    Parent,
    Record,
    identity,
)

LONGEST: Final = 1 << 16  # characters of one text
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def from_text(raw: bytes, where: str, folder: Path) -> Lineage:
    """From JSON that was kept in `folder`; `where` names it in errors.

    Raises FormatError for anything but what `to_text` writes: unknown or missing keys, wrong types, texts and numbers
    of entries out of all proportion, and an ancestor that is not what its children's hash says.
    """
    if len(raw) > MOST_BYTES:
        raise FormatError(f"{where}: {len(raw)} bytes are more than any lineage's {MOST_BYTES}")
    root = _Object(parse_object(raw, where), where, folder)
    root.only("lineage", "record", "ancestors")
    if root.number("lineage") != VERSION:
        raise FormatError(f"{where}: lineage version {root.number('lineage')}; this llamero reads version {VERSION}")
    entries = root.object("ancestors", MOST_ANCESTORS)
    ancestors = {name: _record(entries.object(name)) for name in entries.value}
    for name, record in ancestors.items():
        if identity(record) != name:
            raise FormatError(
                f"{where}: the record of {record.name[:100]!r} is not the one its children named; altered"
            )
    return Lineage(_record(root.object("record")), ancestors)


@dataclass(frozen=True)
class _Object:
    """A JSON object whose entries are asked for by type. Raises FormatError with the place for any other."""

    value: Mapping[str, Any]
    where: str
    folder: Path

    def only(self, *keys: str) -> None:
        for key in self.value:
            if key not in keys:
                raise FormatError(f"{self.where}: unknown key {key[:100]!r}: {nearest(key, keys)}")
        for key in keys:
            if key not in self.value:
                raise FormatError(f"{self.where}: the key {key!r} is missing")

    def text(self, key: str) -> str:
        return self.as_text(self.value[key], key)

    def as_text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or len(value) > LONGEST:
            raise FormatError(f"{self.where}: {key[:100]!r} must be a text of at most {LONGEST} characters")
        return value

    def number(self, key: str) -> int:
        value = self.value[key]
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise FormatError(f"{self.where}: {key!r} must be a whole number from 0")
        return value

    def object(self, key: str, most: int = 1 << 16) -> _Object:
        value = self.value[key]
        if not isinstance(value, dict) or len(value) > most:
            raise FormatError(f"{self.where}: {key[:100]!r} must be an object of at most {most} entries")
        return _Object(value, f"{self.where}: {key[:64]}", self.folder)

    def list(self, key: str, most: int) -> list[Any]:
        value = self.value[key]
        if not isinstance(value, list) or len(value) > most:
            raise FormatError(f"{self.where}: {key!r} must be a list of at most {most} entries")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self.as_text(item, key) for item in self.list(key, 1 << 14))

    def check_hash(self, value: str) -> str:
        if not _SHA256.fullmatch(value):
            raise FormatError(f"{self.where}: {value[:100]!r} is not a SHA-256 in hexadecimal")
        return value

    def digest(self) -> Digest:
        return Digest(self.check_hash(self.text("sha256")), self.number("bytes"))


def _record(entry: _Object) -> Record:
    entry.only("kind", "name", "made", "command", "settings", "versions", "licences", "parents", "files")
    if not _KIND.fullmatch(entry.text("kind")):
        raise FormatError(f"{entry.where}: the kind {entry.text('kind')[:100]!r} is not one short word")
    versions, files = entry.object("versions"), entry.object("files", MOST_FILES)
    parents = [
        _parent(_Object(item if isinstance(item, dict) else {}, f"{entry.where}: parent {i}", entry.folder))
        for i, item in enumerate(entry.list("parents", MOST_PARENTS))
    ]
    return Record(
        kind=entry.text("kind"),
        name=entry.text("name"),
        made=entry.text("made"),
        command=entry.texts("command"),
        settings=dict(entry.object("settings").value),
        versions={name: versions.text(name) for name in versions.value},
        licences=entry.texts("licences"),
        parents=tuple(parents),
        files={name: _file(files, name) for name in files.value},
    )


def _parent(entry: _Object) -> Parent:
    entry.only("role", "name", "path", "sha256", "bytes", "record")
    path = None if entry.value["path"] is None else entry.text("path")
    if path is not None and "\0" in path:
        raise FormatError(f"{entry.where}: a path cannot hold a zero byte")
    place = None if path is None else Path(os.path.normpath(entry.folder / path))
    named = None if entry.value["record"] is None else entry.check_hash(entry.text("record"))
    return Parent(role=entry.text("role"), name=entry.text("name"), path=place, digest=entry.digest(), record=named)


def _file(files: _Object, name: str) -> Digest:
    """The digest of a file, whose path must stay inside the folder."""
    parts = name.split("/")
    if len(name) > 4096 or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise FormatError(f"{files.where}: {name[:100]!r} is not the path of a file inside the folder")
    entry = files.object(name)
    entry.only("sha256", "bytes")
    return entry.digest()
