"""Saves a run: copies its tensors at once, writes them behind its back, and keeps as many checkpoints as wanted.

A checkpoint is written into a hidden folder and takes its name when all of it is on the disk, so a process or a
machine that dies at any moment leaves the checkpoints before as they were.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor as TorchTensor

from llamero.errors import SettingError, StorageError
from llamero.formats.atomic import sync_folder
from llamero.formats.lineage import lineage
from llamero.formats.lineage.digest import Hasher
from llamero.formats.lineage.record import Digest, Lineage
from llamero.training.checkpoints.checkpoint import (
    Checkpoint,
    folder_name,
    manifest_of,
    newest_whole,
    pieces,
    steps,
    write_pieces,
)
from llamero.training.checkpoints.manifest import NAME as MANIFEST
from llamero.training.checkpoints.manifest import Manifest, State
from llamero.training.checkpoints.pieces import Piece
from llamero.training.team.team import Alone, Team


@dataclass(frozen=True)
class Keep:
    """Which checkpoints are kept: the `last` ones, and for ever those of every so many steps (0: none for ever)."""

    last: int = 2
    every: int = 0

    def __post_init__(self) -> None:
        if self.last < 1 or self.every < 0:
            raise SettingError(f"at least the last checkpoint is kept, got last={self.last}, every={self.every}")

    def old(self, steps: list[int]) -> list[int]:
        """Those of the saved steps (newest first) that are kept no longer."""
        return [step for step in steps[self.last :] if not (self.every and step % self.every == 0)]


class Saver:
    """Writes the checkpoints of one run into a folder of their own.

    folder: on storage that all processes of the team share. background: write in a thread; what goes wrong there is
    raised by the next `save`, `check` or `wait`. While it writes, the host's memory holds a copy of all that is saved.
    about: said of the run in every manifest. made_by: the run's lineage, from which each checkpoint has its own.
    """

    def __init__(
        self,
        folder: Path,
        team: Team | None = None,
        keep: Keep | None = None,
        background: bool = True,
        about: Mapping[str, Any] | None = None,
        made_by: Lineage | None = None,
    ) -> None:
        self.made_by = made_by
        self.folder, self.team, self.keep, self.background = folder, team or Alone(), keep or Keep(), background
        self.about = {"torch": torch.__version__} | dict(about or {})
        self._thread: Thread | None = None
        self._error: Exception | None = None
        if self.team.lead:
            _tidy(folder)

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, see `newest_whole`."""
        return newest_whole(self.folder, self.team)

    def save(self, state: State, parameters: Mapping[str, TorchTensor], optimizer: torch.optim.Optimizer) -> None:
        """Save what the tensors hold now; waits for the save before.

        Raises StorageError when this one (without `background`) or the one before could not be written.
        """
        self.wait()
        held = pieces(parameters, optimizer)
        if self.background:
            self._thread = Thread(target=self._behind, args=(state, held), name="saver")
            self._thread.start()
        else:
            self._write(state, held)

    def check(self) -> None:
        """Raise what went wrong in the background, if anything has so far."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written; raise what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _behind(self, state: State, held: list[Piece]) -> None:
        try:
            self._write(state, held)
        except Exception as error:
            self._error = error

    def _write(self, state: State, held: list[Piece]) -> None:
        name = folder_name(state.step)
        hidden = self.folder / f".{name}.partial"
        try:
            self._agree(name, partial(_make, hidden) if self.team.lead else dict)
            written = self._agree(name, partial(write_pieces, hidden, self.team.process, held))
            self._agree(name, partial(self._commit, hidden, state, written) if self.team.lead else dict)
        finally:
            if self.team.lead:
                shutil.rmtree(hidden, ignore_errors=True)

    def _agree(self, name: str, work: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
        """Do this process's part and hear how the others fared. Raises StorageError on all if one failed."""
        try:
            answer: dict[str, Any] = {"done": work()}
        except Exception as error:  # whatever it is, the others must hear of it
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers = [json.loads(text) for text in self.team.exchange(json.dumps(answer))]
        failed = [f"process {i}: {each['failed']}" for i, each in enumerate(answers) if "failed" in each]
        if failed:
            raise StorageError(
                f"{self.folder / name} could not be saved; the checkpoints before it are untouched. {failed[0]}"
            )
        return [each["done"] for each in answers]

    def _commit(self, hidden: Path, state: State, written: list[dict[str, Any]]) -> dict[str, Any]:
        """Give the checkpoint its manifest and its name, and remove old ones."""
        manifest = manifest_of(state, written, self.about | {"processes": self.team.processes})
        for name, file in manifest.files.items():
            path = hidden / name
            if not path.is_file() or path.stat().st_size != file.bytes:
                raise StorageError(f"{path} is not here: the folder must be on storage that all processes share")
        manifest.write(hidden)
        if self.made_by is not None:
            _write_lineage(hidden, self.made_by, manifest)
        sync_folder(hidden)
        _rename(hidden, self.folder / folder_name(state.step))
        done = [step for step in steps(self.folder) if step <= state.step]  # a run that went back has broken ones ahead
        for step in self.keep.old(done):
            _remove(self.folder / folder_name(step))
        return {}


def _write_lineage(folder: Path, run: Lineage, manifest: Manifest) -> None:
    """The run's lineage as that of a checkpoint; the files' hashes are known from writing them."""
    step = manifest.state.step
    settings = {**run.record.settings, "step": step}
    record = replace(run.record, kind="checkpoint", name=folder_name(step), made=lineage.now(), settings=settings)
    files = {name: Digest(file.sha256, file.bytes) for name, file in manifest.files.items()}
    files[MANIFEST] = Hasher().of_file(folder / MANIFEST)
    lineage.write(folder, replace(run, record=record), files=files)


def _make(hidden: Path) -> dict[str, Any]:
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    return {}


def _rename(hidden: Path, path: Path) -> None:
    """Give a folder its name, which another may have."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        path.rename(old)
    os.rename(hidden, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    gone = path.with_name(f".{path.name}.gone")  # half removed it would look broken
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what a killed process left behind; a folder that was about to be replaced gets its name back."""
    for path in folder.glob(".step-*"):
        kept = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
        if path.suffix == ".old" and not kept.exists():
            path.rename(kept)
        else:
            shutil.rmtree(path, ignore_errors=True)
