"""The folder of a run: what is where, and its settings in run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.gguf_write import write_gguf
from llamero.formats.jsontext import read_object, write_object
from llamero.formats.lineage import lineage
from llamero.formats.lineage.record import Lineage
from llamero.model.config import Config, RopeScaling
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Folder:
    """RUN/{.lock, run.json, lineage.json, log.jsonl, tokenizer.gguf, data/, checkpoints/, samples/, model.gguf}.

    Nothing is made by looking.

    Raises SettingError where a file has the folder's name.
    """

    path: Path

    def __post_init__(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise SettingError(f"{self.path} is a file; a run needs a folder of its own")

    @property
    def name(self) -> str:
        """The folder's name; what in it is no Unicode is spelt out."""
        return self.path.resolve().name.encode("utf-8", "backslashreplace").decode()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def model(self) -> Path:
        return self.path / "model.gguf"

    def sample(self, step: int) -> Path:
        return self.path / "samples" / f"step-{step:08}.txt"

    def describe(self, values: Mapping[str, Any]) -> None:
        """Write run.json. values["settings"]: all settings as they were resolved, those of the model among them."""
        write_object(self.path / "run.json", values)

    def settings(self) -> dict[str, Any]:
        """The settings in run.json; none where there is no run yet. Raises FormatError."""
        path = self.path / "run.json"
        if not path.exists():
            return {}
        settings = read_object(path).get("settings")
        if not isinstance(settings, dict):
            raise FormatError(f"{path}: does not describe a run")
        return settings

    def config(self) -> Config:
        """The blueprint in run.json. Raises ModelNotFound, FormatError."""
        settings = self.settings()
        if not settings:
            raise ModelNotFound(f"{self.path} holds no run: there is no run.json in it")
        try:
            scaling = settings["rope_scaling"]
            names = Config.__dataclass_fields__.keys() - {"rope_scaling"}
            scaling = None if scaling is None else RopeScaling(**scaling)
            return Config(**{name: settings[name] for name in names}, rope_scaling=scaling)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{self.path / 'run.json'}: does not describe a model: {error!r}") from error

    @property
    def vocabulary(self) -> Path:
        return self.path / "tokenizer.gguf"

    def keep_tokenizer(self, tokenizer: Tokenizer, made_by: Lineage | None = None) -> Tokenizer:
        """Store the run's vocabulary, in a GGUF file without weights."""
        about = {"general.architecture": "llama"} | (lineage.inside(self.vocabulary, made_by) if made_by else {})
        write_gguf(self.vocabulary, about | tokenizer.to_gguf(), [])
        return tokenizer

    def tokenizer(self) -> Tokenizer | None:
        """The stored vocabulary; None where there is none yet."""
        try:
            return load_tokenizer(self.vocabulary)
        except ModelNotFound:
            return None
