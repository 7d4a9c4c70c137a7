"""How a server opens a model's file, and what a model will be counted with before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llamero.engine.generate import Progress
from llamero.formats.open import open_model_file
from llamero.interfaces.llama import Llama, default_context
from llamero.interfaces.models import find_model
from llamero.interfaces.server.catalogue import Entry
from llamero.interfaces.speculation import Speculate
from llamero.model.cache import cache_bytes
from llamero.model.config import Config
from llamero.model.weights import config_of
from llamero.ops.protocol import CacheKind

_ANSWERS = 4  # what a cache holds unless told otherwise; memory is touched only as it fills


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model takes. context, room: tokens, of one answer and of all. nbytes: weights, adapters and caches."""

    context: int
    room: int
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class Opener:
    """The same settings for all models; see `Llama`. room: tokens, of all answers of a model; None is four contexts."""

    context: int | None = None
    room: int | None = None
    threads: int | None = None
    device: str = "cpu"
    deterministic: bool = False
    cache: CacheKind = "f16"
    chat_template: str | None = None
    draft: str | None = None
    speculate: Speculate = "off"

    def size(self, entry: Entry) -> Size:
        """What the model will take. Reads only heads; raises what opening would."""
        config, weights = _head(entry.path)
        context = default_context(self.context, config)
        room = max(context, _ANSWERS * context if self.room is None else self.room)
        total = weights + sum(_file_bytes(path) for path, _ in entry.adapters.values())
        total += cache_bytes(config, room, self.cache)
        if self.draft is not None:
            smaller, its_weights = _head(find_model(self.draft))
            total += its_weights + cache_bytes(smaller, room, self.cache)
        return Size(context=context, room=room, nbytes=total)

    def open(self, entry: Entry, size: Size, progress: Progress) -> Llama:
        """The model, ready. Raises what `Llama` raises."""
        return Llama(
            entry.path,
            context=size.context,
            room=size.room,
            threads=self.threads,
            device=self.device,
            deterministic=self.deterministic,
            cache=self.cache,
            chat_template=self.chat_template,
            adapters=dict(entry.adapters),
            draft=self.draft,
            speculate=self.speculate,
            progress=progress,
        )


def _head(path: Path) -> tuple[Config, int]:
    """A file's blueprint, and the bytes of its weights."""
    reader = open_model_file(path)
    try:
        return config_of(reader), sum(info.nbytes for info in reader.tensors.values())
    finally:
        reader.close()


def _file_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
