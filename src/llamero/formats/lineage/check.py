"""A lineage held against the disk: which parents are still there, and whether they are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llamero.errors import LlameroError
from llamero.formats.lineage.digest import Hasher
from llamero.formats.lineage.lineage import digest, listed, read
from llamero.formats.lineage.record import Digest, Lineage, Parent, Record

State = Literal["unchanged", "same size", "changed", "missing", "unplaced"]
"""As it was by its hash; by its size alone; no longer; not there; never was a place on this disk."""


@dataclass(frozen=True)
class Member:
    """One parent in a family tree. `depth`: 1 for a parent of the artefact itself. `record`: None where it had none.

    `detail`: what differs. `repeated`: its own parents stand further up in the tree, where it came up first.
    """

    depth: int
    parent: Parent
    record: Record | None
    state: State
    detail: str
    repeated: bool


def members(lineage: Lineage, hasher: Hasher | None) -> Iterator[Member]:
    """All parents, each before its own parents; None as hasher looks at sizes only."""
    shown: set[str] = set()
    states: dict[tuple[Path, Digest], tuple[State, str]] = {}
    waiting = [(1, parent) for parent in reversed(lineage.record.parents)]
    while waiting:
        depth, parent = waiting.pop()
        record = None if parent.record is None else lineage.ancestors.get(parent.record)
        repeated = record is not None and parent.record in shown
        key = parent.path or Path(), parent.digest
        if key not in states:
            states[key] = _state(parent, hasher)
        yield Member(depth, parent, record, *states[key], repeated)
        if record is not None and parent.record is not None and not repeated:
            shown.add(parent.record)
            waiting += [(depth + 1, older) for older in reversed(record.parents)]


def problems(path: Path, record: Record, hasher: Hasher | None) -> list[str]:
    """What of an artefact's own files is not as its record lists them: empty where all is well or none is listed."""
    folder = path if path.is_dir() else path.parent
    return [odd for name, was in record.files.items() if (odd := _compare(folder / name, was, hasher))]


def _state(parent: Parent, hasher: Hasher | None) -> tuple[State, str]:
    if parent.path is None:
        return "unplaced", ""
    if not parent.path.exists():
        return "missing", ""
    try:
        return _folder_state(parent, parent.path, hasher) if parent.path.is_dir() else _file_state(parent, hasher)
    except (LlameroError, OSError) as error:
        return "changed", str(error)


def _file_state(parent: Parent, hasher: Hasher | None) -> tuple[State, str]:
    assert parent.path is not None
    odd = _compare(parent.path, parent.digest, hasher)
    return ("changed", odd) if odd else ("unchanged" if hasher else "same size", "")


def _folder_state(parent: Parent, path: Path, hasher: Hasher | None) -> tuple[State, str]:
    own = read(path)
    if own is not None and own.record.files:
        odd = problems(path, own.record, hasher)
        if odd:
            return "changed", "; ".join(odd[:3]) + (f"; and {len(odd) - 3} more" if len(odd) > 3 else "")
    size = sum((path / name).stat().st_size for name in listed(path))
    if size != parent.digest.bytes:  # what cannot be the same is not read
        return "changed", f"it holds {size} bytes instead of {parent.digest.bytes}"
    if hasher is None:
        return "same size", ""
    now = digest(path, hasher)
    return ("unchanged", "") if now == parent.digest else ("changed", f"it is now {now.sha256[:12]}")


def _compare(path: Path, was: Digest, hasher: Hasher | None) -> str:
    """How a file differs from what it was; empty where it does not. A file of another size is not read."""
    if not path.is_file():
        return f"{path.name} is not there"
    size = path.stat().st_size
    if size != was.bytes:
        return f"{path.name} has {size} bytes instead of {was.bytes}"
    if hasher is None:
        return ""
    now = hasher.of_file(path)
    return "" if now == was else f"{path.name} is now {now.sha256[:12]}"
