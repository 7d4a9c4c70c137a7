"""The engines that bundles have unpacked on this machine, listed and removed. The launcher looks in these places."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{32}")
_HALF = re.compile(r"\.[0-9a-f]{32}\.\d+\.[0-9a-f]{16}\.(new|old)")
_PATIENCE = 600  # seconds after which nobody is writing a folder any more


@dataclass(frozen=True)
class Unpacked:
    """A folder with an engine, or with a part of one that a killed process left. size: bytes of its files."""

    path: Path
    size: int
    whole: bool


def places(environment: Mapping[str, str]) -> list[Path]:
    """The folders of engines, as the launcher tries them."""
    found = []
    for variable, below in (("XDG_CACHE_HOME", "llamero"), ("HOME", ".cache/llamero")):
        if environment.get(variable, "").startswith("/"):
            found.append(Path(environment[variable]) / below)
    shared = (environment.get("TMPDIR", ""), "/tmp", "/var/tmp", "/dev/shm")
    found += [Path(folder) / f"llamero-{os.geteuid()}" for folder in shared if folder.startswith("/")]
    return [folder / "engines" for folder in dict.fromkeys(found)]


def unpacked(environment: Mapping[str, str]) -> list[Unpacked]:
    """Every engine of this user, and what was left half."""
    found = []
    for place in places(environment):
        if not place.is_dir() or place.is_symlink():
            continue
        for path in sorted(place.iterdir()):
            half = _HALF.fullmatch(path.name)
            if path.is_dir() and not path.is_symlink() and (_NAME.fullmatch(path.name) or half):
                if half and time.time() - path.stat().st_mtime < _PATIENCE:
                    continue  # perhaps being unpacked at this moment
                size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
                found.append(Unpacked(path, size, whole=half is None))
    return found


def remove(engine: Unpacked) -> None:
    """Delete one. A program that runs from it may stop; the next start unpacks it again."""
    shutil.rmtree(engine.path)
