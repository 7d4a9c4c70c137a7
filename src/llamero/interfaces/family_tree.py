"""A lineage as people and programs read it: the family tree with its commands, and the same as JSON.

Names, commands and settings may come from a stranger's file, so whatever a terminal would obey is shown as an escape.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llamero.formats.lineage.check import Member
from llamero.formats.lineage.record import Record

_WIDE = 300  # characters of a line; --json has all


def visible(text: str, most: int = _WIDE) -> str:
    """The text on one line, shortened to `most` characters, with escapes for what cannot be seen or is obeyed."""
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def tree(path: Path, record: Record, problems: Sequence[str], members: Sequence[Member]) -> Iterator[str]:
    """The lines of a family tree, the artefact first, each parent before its own parents."""
    yield visible(f"{path}: {record.kind} {record.name!r}, made {record.made}")
    yield from _how(record, "  ", None)
    if record.files:
        state = "; ".join(problems[:5]) if problems else "as they were made"
        yield f"  its {len(record.files)} files: {visible(state)}"
    for member in members:
        indent = "  " * member.depth
        parent = member.parent
        kind = member.record.kind if member.record else "no record of its own"
        yield f"{indent}- {visible(parent.role, 40)}: {visible(parent.name, 100)} ({kind}), {_fate(member)}"
        if member.record is not None and member.repeated:
            yield f"{indent}    its parents stand above"
        elif member.record is not None:
            yield from _how(member.record, f"{indent}    ", record)
    yield _summary(members)


def as_json(path: Path, record: Record, problems: Sequence[str], members: Sequence[Member]) -> dict[str, Any]:
    """All of it as JSON values."""
    return {
        "path": str(path),
        "record": _values(record),
        "problems": list(problems),
        "members": [
            {
                "depth": member.depth,
                "role": member.parent.role,
                "name": member.parent.name,
                "path": None if member.parent.path is None else str(member.parent.path),
                **asdict(member.parent.digest),
                "state": member.state,
                "detail": member.detail,
                "repeated": member.repeated,
                "record": None if member.record is None else _values(member.record),
            }
            for member in members
        ],
    }


def command_line(record: Record) -> str:
    """The command as a shell would take it."""
    return shlex.join(record.command)


def _how(record: Record, indent: str, first: Record | None) -> Iterator[str]:
    """Command, settings, versions and licences of one record; what it shares with the `first` is not said again."""
    if record.command and first is not None and record.command == first.command:
        yield f"{indent}$ the same command"
    elif record.command:
        yield f"{indent}$ {visible(command_line(record))}"
    if record.settings:
        settings = [f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in record.settings.items()]
        yield f"{indent}{visible(', '.join(settings))}"
    for licence in record.licences:
        yield f"{indent}licence: {visible(licence)}"
    if record.versions and (first is None or record.versions != first.versions):
        yield f"{indent}{visible(', '.join(f'{name} {version}' for name, version in record.versions.items()))}"


def _fate(member: Member) -> str:
    parent = member.parent
    about = f"{parent.digest.sha256[:12]}, {parent.digest.bytes:,} bytes"
    if member.state == "unplaced":
        return f"{about}: was no place on a disk"
    where = visible(str(parent.path))
    said = {"missing": "MISSING, was at", "changed": "CHANGED:", "unchanged": "unchanged,", "same size": "same size,"}
    detail = f" ({visible(member.detail)})" if member.detail else ""
    return f"{about}: {said[member.state]} {where}{detail}"


def _summary(members: Sequence[Member]) -> str:
    once = {(member.parent.path, member.parent.digest): member.state for member in members}
    counts = Counter(once.values())
    if not counts:
        return "no parents"
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(once)} ancestor{'s' if len(once) > 1 else ''}: {states}"


def _values(record: Record) -> dict[str, Any]:
    about = {name: getattr(record, name) for name in record.__dataclass_fields__ if name != "parents"}
    return about | {"files": {name: asdict(digest) for name, digest in record.files.items()}}
