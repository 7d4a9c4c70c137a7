"""Lineage: every artefact says from which parents, by which command and with which settings it was made.

A folder keeps it in `lineage.json`; a GGUF or safetensors file inside, under the key `llamero.lineage`; any other file
in `NAME.lineage.json` beside it. Long work calls `compose` first, which reads the parents and refuses what is wrong,
and `write` when the artefact is there; `record` does both. What it says is laid down in lineage_record.py.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata as installed
from pathlib import Path
from typing import Any, Final

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.gguf import GGUF
from llamero.formats.lineage.digest import FILE_NAME, Hasher, Progress, names_in, of_list
from llamero.formats.lineage.parse import LONGEST, from_text
from llamero.formats.lineage.record import (
    MOST_ANCESTORS,
    MOST_BYTES,
    MOST_PARENTS,
    Digest,
    Lineage,
    Parent,
    Record,
    identity,
    to_text,
)
from llamero.formats.safetensors import Safetensors

KEY: Final = "llamero.lineage"
"""The metadata key of files that carry their lineage inside."""

_BESIDE: Final = ".lineage.json"
_PROGRAMS: Final = ("llamero", "numpy", "torch", "tokenizers", "sentencepiece")


def compose(
    kind: str,
    *,
    name: str = "",
    parents: Iterable[tuple[str, Path]] = (),
    settings: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    licences: Iterable[str] = (),
    progress: Progress | None = None,
) -> Lineage:
    """The lineage of something about to be made. Hashes parents that do not tell their own hashes (`told`).

    parents: (role, path) of each file or folder it is made from; None of them may change until it is made.
    command: the words of the command line; None takes this process's. settings: anything JSON holds.
    Raises ModelNotFound for a parent that is not there, FormatError for one whose own lineage is broken, SettingError
    for what a lineage cannot hold.
    """
    hasher = Hasher(progress)
    found = [_parent(role, Path(path), hasher) for role, path in parents]
    record = Record(
        kind=kind,
        name=name,
        made=now(),
        command=tuple(_own_command() if command is None else command),
        settings=dict(settings or {}),
        versions=_versions(),
        licences=tuple(licences),
        parents=_folded([parent for parent, _ in found]),
    )
    lineage = Lineage(record, _ancestors(found))
    text = to_text(lineage, Path.cwd()).encode()
    try:
        from_text(text, "this lineage", Path.cwd())
    except FormatError as error:
        raise SettingError(f"{error} (it may hold {MOST_BYTES} bytes in all and {LONGEST} characters a text)") from None
    return lineage


def write(path: Path, lineage: Lineage, *, files: Mapping[str, Digest] | None = None, living: bool = False) -> Path:
    """Write the lineage of a folder into it, of a file beside it -> the file written.

    files: a folder's digests where they are known, to spare reading it once more. living: a folder that goes on
    changing, such as a run's; its files are not listed.
    """
    record = lineage.record
    if not record.name:
        record = replace(record, name=path.resolve().name)
    place = path / FILE_NAME if path.is_dir() else path.with_name(path.name + _BESIDE)
    if not living:
        record = replace(record, files=_all_files(path) if files is None else files)
    text = to_text(replace(lineage, record=record), place.parent)
    with atomic_file(place) as file:
        file.write(f"{text}\n".encode())
    return place


def check_free(folder: Path, kind: str) -> None:
    """Raise SettingError where the folder is an artefact of another kind: its lineage would be written over."""
    old = None
    with suppress(FormatError):
        old = _read_file(folder / FILE_NAME)
    if old is not None and old.record.kind != kind:
        raise SettingError(
            f"{folder} holds a lineage of kind {old.record.kind!r}, which would be lost; name another folder, "
            f"or move {FILE_NAME} away"
        )


def record(path: Path, *, living: bool = False, **about: Any) -> Lineage:
    """`compose` and `write` in one: lineage.record(out, kind="tokenizer", parents=[("text", file)], settings={...})."""
    lineage = compose(about.pop("kind"), **about)
    write(path, lineage, living=living)
    return lineage


def inside(path: Path, lineage: Lineage) -> dict[str, str]:
    """The lineage as metadata of the GGUF or safetensors file that is about to be written at `path`."""
    named = replace(lineage, record=replace(lineage.record, name=lineage.record.name or path.name))
    return {KEY: to_text(named, path.resolve().parent)}


def read(path: Path) -> Lineage | None:
    """The lineage of a file or folder; None where there is none.

    That of a file that keeps none itself, but that its folder's lineage lists, is the folder's.
    Raises ModelNotFound where nothing is there, FormatError for a lineage that is broken.
    """
    if not path.exists():
        raise ModelNotFound(f"{path} is not there")
    if path.is_dir():
        return _read_file(path / FILE_NAME)
    text = _text_inside(path)
    if text is not None:
        return from_text(text, f"{path}: {KEY}", path.resolve().parent)
    beside = _read_file(path.with_name(path.name + _BESIDE))
    if beside is not None:
        return beside
    folder = None if path.name == FILE_NAME else _read_file(path.parent / FILE_NAME)
    return folder if folder is not None and path.name in folder.record.files else None


def digest(path: Path, hasher: Hasher) -> Digest:
    """What a file or folder is known by to its children."""
    return hasher.of_file(path) if path.is_file() else of_list(hasher.of_files(path, listed(path)))


def told(folder: Path) -> Digest | None:
    """The same of a folder by the word of its lineage, if no file has another size or is younger than that.

    So terabytes of shards and checkpoints are not read to name them as parents.
    """
    own = _read_file(folder / FILE_NAME)
    if own is None or not own.record.files:
        return None
    written = (folder / FILE_NAME).stat().st_mtime_ns
    for name, was in own.record.files.items():
        stat = (folder / name).stat() if (folder / name).is_file() else None
        if stat is None or stat.st_size != was.bytes or stat.st_mtime_ns > written:
            return None
    return of_list(own.record.files)


def listed(folder: Path) -> list[str]:
    """The files that make up a folder: those that its lineage lists, or all."""
    own = _read_file(folder / FILE_NAME)
    return sorted(own.record.files) if own is not None and own.record.files else names_in(folder)


def _read_file(path: Path) -> Lineage | None:
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        raise FormatError(f"{path}: {path.stat().st_size} bytes are more than any lineage's {MOST_BYTES}")
    return from_text(path.read_bytes(), str(path), path.resolve().parent)


def _text_inside(path: Path) -> bytes | None:
    """What a file keeps under our key, if it is of a kind that can and has it."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[:4] == b"GGUF":
        reader: GGUF | Safetensors = GGUF.open(path)
    elif head[8:9] == b"{" and path.suffix == ".safetensors":
        reader = Safetensors.open(path)
    else:
        return None
    with closing(reader):
        text = reader.metadata.get(KEY)
    if text is None:
        return None
    if not isinstance(text, str):
        raise FormatError(f"{path}: {KEY} must be a text")
    return text.encode()


def _all_files(path: Path) -> dict[str, Digest]:
    names = [path.name] if path.is_file() else names_in(path)
    return Hasher().of_files(path.parent if path.is_file() else path, names)


def _parent(role: str, path: Path, hasher: Hasher) -> tuple[Parent, Lineage | None]:
    lineage = read(path)
    place = path.resolve()
    named = None if lineage is None else identity(lineage.record)
    held = (told(path) if path.is_dir() else None) or digest(path, hasher)
    return Parent(role=role, name=place.name, path=place, digest=held, record=named), lineage


def _folded(parents: list[Parent]) -> tuple[Parent, ...]:
    """Parents of a role that has too many to list become one, known by the list of them."""
    if len(parents) <= MOST_PARENTS:
        return tuple(parents)
    roles: dict[str, list[Parent]] = {}
    for parent in parents:
        roles.setdefault(parent.role, []).append(parent)
    return tuple(
        Parent(
            role=role,
            name=f"{len(some)} files, from {some[0].name} to {some[-1].name}",
            path=None,
            digest=of_list({str(i): parent.digest for i, parent in enumerate(some)}),
        )
        for role, some in roles.items()
    )


def _ancestors(found: list[tuple[Parent, Lineage | None]]) -> dict[str, Record]:
    """Records by identity, nearest first; what is beyond the most that a lineage may hold is left out."""
    known: dict[str, Record] = {}
    for parent, own in found:
        if own is not None and parent.record is not None:
            known[parent.record] = replace(own.record, files={})
    for _, own in found:
        for name, older in own.ancestors.items() if own is not None else ():
            known.setdefault(name, older)
    return dict(list(known.items())[:MOST_ANCESTORS])


def _own_command() -> list[str]:
    """The words that started this process, as one would type them again."""
    program, *words = sys.argv or [""]
    if program.endswith("llamero/__main__.py"):
        return ["llamero", *words]
    if program in ("", "-c"):  # the words of such a program are not known
        return ["python", "-c", "..."]
    return ["python", program, *words] if program.endswith(".py") else [Path(program).name, *words]


def now() -> str:
    """The time in UTC as records have it; SOURCE_DATE_EPOCH says another, so that artefacts can be equal."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(fixed) if fixed.isascii() and fixed.isdigit() and len(fixed) < 12 else int(time.time())
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _versions() -> dict[str, str]:
    """Of what is installed and may have had a hand in it; nothing is imported for that."""
    versions = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for program in _PROGRAMS:
        try:
            versions[program] = installed.version(program)
        except installed.PackageNotFoundError:
            continue
    return versions
