"""What an artefact's lineage says, and its JSON: who made it, when, with what, and from which parents.

A lineage is the artefact's own record and those of all its ancestors that had one, so that a file alone can tell its
family. A record names its parents' records by hash, as a git commit does: none can be altered unseen, and nothing can
descend from itself. It is read
in lineage_parse.py. Knows nothing of where a lineage is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

VERSION: Final = 1
MOST_PARENTS: Final = 1024  # of one record; more of one role are counted as one
MOST_ANCESTORS: Final = 1024
MOST_FILES: Final = 1 << 17  # of a folder
MOST_BYTES: Final = 1 << 23  # of a whole lineage; GGUF holds 32 MiB of keys and strings


@dataclass(frozen=True)
class Digest:
    """What something holds. `sha256`: hexadecimal, of a file's bytes or of a folder's list; `bytes`: in all."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Parent:
    """One thing that an artefact was made from.

    `role`: what for, such as "text" or "tokenizer". `path`: where it was, None where that is not a place on a disk.
    `digest`: what it held. `record`: the identity of its own record, None where it had none.
    """

    role: str
    name: str
    path: Path | None
    digest: Digest
    record: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one artefact came to be.

    `kind`: source, corpus, shards, tokenizer, run, checkpoint, model, or another such word. `made`: UTC, ISO 8601.
    `settings`: anything JSON holds. `versions`: of programs, by name, and the platform. `licences`: notes of what its
    maker may do with it, most of all for sources. `files`: of a folder by their path in it, of a single file itself;
    empty where the record is kept inside the file, where the folder still changes, and in ancestors.
    """

    kind: str
    name: str
    made: str
    command: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    files: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """A record, and those of its ancestors by their identity."""

    record: Record
    ancestors: Mapping[str, Record] = field(default_factory=dict)


def identity(record: Record) -> str:
    """By which children name a record: SHA-256 of its JSON without places and files, keys sorted, no white space."""
    plain = _plain(record, Path())
    del plain["files"]
    plain["parents"] = [{key: item for key, item in parent.items() if key != "path"} for parent in plain["parents"]]
    text = json.dumps(_settled(plain), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def to_text(lineage: Lineage, folder: Path) -> str:
    """As JSON. Paths are written as seen from `folder`, where the text will be kept."""
    value = {
        "lineage": VERSION,
        "record": _plain(lineage.record, folder),
        "ancestors": {name: _plain(record, folder) for name, record in lineage.ancestors.items()},
    }
    return json.dumps(_settled(value), ensure_ascii=False, allow_nan=False, indent=1)


def _settled(value: Any) -> Any:
    """The value as strict JSON holds it; what JSON has no form for becomes its text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {str(_settled(key)): _settled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_settled(item) for item in value]
    return str(value).encode("utf-8", "backslashreplace").decode()  # a file's name may be no Unicode


def _plain(record: Record, folder: Path) -> dict[str, Any]:
    """As JSON's own types, in the order of the file."""
    parents = [
        {
            "role": parent.role,
            "name": parent.name,
            "path": _seen_from(folder, parent.path),
            **asdict(parent.digest),
            "record": parent.record,
        }
        for parent in record.parents
    ]
    files = {name: asdict(digest) for name, digest in record.files.items()}
    shallow = {name: getattr(record, name) for name in ("kind", "name", "made", "command", "settings", "versions")}
    return shallow | {"licences": record.licences, "parents": parents, "files": files}


def _seen_from(folder: Path, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
