"""A run's journal, RUN/log.jsonl: one JSON object a line for each step, and for what happens between steps.

A step's line is on its way to the disk before the next step begins, so a run that is killed loses nothing before its
last whole line. A run that goes on cuts what lies beyond its checkpoint, so that the journal tells of one run. For
that, whatever belongs to a step must be written before that step's checkpoint is.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from llamero.errors import FormatError, ModelNotFound, SettingError

NAME = "log.jsonl"
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # JSON has no such numbers, only strings
_TEXTS = {"event", "prompt", "text"}  # strings that are never such a number


class Journal:
    """Writes a run's journal; the file is opened, and cut, when the first line is written.

    folder: the run's; None writes nothing, as on all ranks but the one that leads. step: where the run goes on; lines
    of later steps are cut.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._path = None if folder is None else folder / NAME
        self._step = step
        self._file: FileIO | None = None

    def write(self, step: int, **values: Any) -> None:
        """One step as it went, such as loss=2.5, rate=3e-4, tokens=4096.

        Values are what JSON has; floats read back with the same bits. Raises OSError where the disk is full.
        """
        self._line({"step": step} | values)

    def event(self, name: str, step: int, **values: Any) -> None:
        """Something that happened after a step, such as "validation" with its loss, or "saved"."""
        self._line({"event": name, "step": step} | values)

    def sync(self) -> None:
        """Wait until all lines are on the disk itself, where a loss of power cannot take them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file; a later line would open it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.close()

    def _line(self, entry: dict[str, Any]) -> None:
        if self._path is None:
            return
        step = entry["step"]
        if step < self._step:
            raise SettingError(f"{self._path}: step {step} cannot be written after step {self._step}")
        self._file = self._file or _open(self._path, self._step)
        self._step = step
        text = json.dumps(_strict(entry | {"time": round(time.time(), 3)}), ensure_ascii=False, allow_nan=False)
        left = memoryview(f"{text}\n".encode("utf-8", "replace"))
        try:
            while left:  # unbuffered: once written, a kill cannot take it back
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


@dataclass(frozen=True)
class Log:
    """A journal as read: steps, and events between them, each in the order of the file."""

    steps: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...]


def read(path: Path) -> Log:
    """The journal of a run by its folder or file, also while the run is writing to it.

    Raises ModelNotFound where there is none, FormatError for a line that is no entry of a journal; a last line that is
    not whole yet is left out.
    """
    path = path / NAME if path.is_dir() else path
    steps: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    try:
        for number, (line, entry) in enumerate(_lines(path), 1):
            if entry is not None:
                (events if "event" in entry else steps).append(entry)
            elif line.endswith(b"\n"):
                raise FormatError(f"{path}: line {number} is not a JSON object with a step, as a journal's lines are")
    except FileNotFoundError as error:
        raise ModelNotFound(f"{path}: there is no journal of a run ({NAME})") from error
    return Log(tuple(steps), tuple(events))


def _open(path: Path, step: int) -> FileIO:
    """The file, to be continued after the last whole line of steps up to `step`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FileIO(path, "a")
    kept = offset = 0
    for line, entry in _lines(path):
        offset += len(line)
        if entry is not None:
            if entry["step"] > step:
                break
            kept = offset
    file.truncate(kept)
    return file


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with what it says, None for a line that is torn or says nothing we know."""
    with path.open("rb") as file:
        for line in file:
            entry: Any = None
            if line.endswith(b"\n"):
                with suppress(ValueError):  # not UTF-8, or not JSON
                    entry = json.loads(line)
            known = isinstance(entry, dict) and type(entry.get("step")) is int
            yield line, {key: _number(key, value) for key, value in entry.items()} if known else None


def _number(key: str, value: Any) -> Any:
    return _NUMBERS.get(value, value) if isinstance(value, str) and key not in _TEXTS else value


def _strict(value: Any) -> Any:
    """The value as strict JSON has it: numbers that are not finite by name, numpy's and torch's as Python's."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return _strict(value.item()) if hasattr(value, "item") else value
