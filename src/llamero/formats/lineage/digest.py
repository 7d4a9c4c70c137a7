"""Hashes of files and folders, so that whoever names a parent means its content. Knows nothing of lineages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from llamero.errors import FormatError, ModelNotFound
from llamero.formats.lineage.record import MOST_FILES, Digest

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

FILE_NAME: Final = "lineage.json"
_CHUNK: Final = 1 << 22


class Hasher:
    """Hashes files, each once, and reports the bytes that went through."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._done = self._total = 0
        self._known: dict[tuple[str, int, int], Digest] = {}

    def of_file(self, path: Path) -> Digest:
        """SHA-256 of a file's bytes. Raises ModelNotFound where there is none, OSError where it cannot be read."""
        if not path.is_file():
            raise ModelNotFound(f"{path} is not there, or is no file")
        stat = path.stat()
        key = str(path.resolve()), stat.st_size, stat.st_mtime_ns
        if key not in self._known:
            self._total += stat.st_size
            self._known[key] = self._read(path, stat.st_size)
        return self._known[key]

    def of_files(self, folder: Path, names: list[str]) -> dict[str, Digest]:
        """Digests of files by their path in a folder."""
        return {name: self.of_file(folder / name) for name in names}

    def _read(self, path: Path, end: int) -> Digest:
        """No further than `end`: what the system makes up as a file (/proc) may have no end."""
        state, size = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(min(_CHUNK, end - size)):
                state.update(chunk)
                size += len(chunk)
                self._done += len(chunk)
                if self._progress is not None:
                    self._progress(min(self._done, self._total), self._total)
        return Digest(state.hexdigest(), size)


def of_list(files: Mapping[str, Digest]) -> Digest:
    """What a folder is known by: SHA-256 over a line "hash bytes path" for each file, sorted by path."""
    lines = [f"{digest.sha256} {digest.bytes} {name}\n" for name, digest in sorted(files.items())]
    return Digest(
        hashlib.sha256("".join(lines).encode("utf-8", "backslashreplace")).hexdigest(),
        sum(digest.bytes for digest in files.values()),
    )


def names_in(folder: Path) -> list[str]:
    """The files of a folder and of those inside it, sorted; neither hidden ones nor its lineage.

    Raises ModelNotFound for an empty folder, FormatError for one with more files than a lineage may list.
    """
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in files if not name.startswith(".")]
        names += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
        if len(names) > MOST_FILES:
            raise FormatError(f"{folder} has more files than a lineage may list ({MOST_FILES})")
    names = sorted(name for name in names if name != FILE_NAME)
    if not names:
        raise ModelNotFound(f"{folder} is empty, so nothing descends from it")
    return names
