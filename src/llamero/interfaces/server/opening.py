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

_CONTEXTS = 4  # what a cache holds unless told otherwise; memory is touched only as it fills


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

    def needs(self, entry: Entry) -> int:
        """Bytes of the weights, of adapters, and of the whole cache. Reads only heads; raises what opening would."""
        config, weights = _head(entry.path)
        adapters = sum(_size(path) for path, _ in entry.adapters.values())
        total = weights + adapters + cache_bytes(config, self._room(config), self.cache)
        if self.draft is not None:
            smaller, its_weights = _head(find_model(self.draft))
            total += its_weights + cache_bytes(smaller, self._room(config), self.cache)
        return total

    def open(self, entry: Entry, progress: Progress) -> Llama:
        """The model, ready. Raises what `Llama` raises."""
        config, _ = _head(entry.path)
        return Llama(
            entry.path,
            context=self.context,
            room=self._room(config),
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

    def _room(self, config: Config) -> int:
        context = default_context(self.context, config)
        return max(context, _CONTEXTS * context if self.room is None else self.room)


def _head(path: Path) -> tuple[Config, int]:
    """A file's blueprint, and the bytes of its weights."""
    reader = open_model_file(path)
    try:
        return config_of(reader), sum(info.nbytes for info in reader.tensors.values())
    finally:
        reader.close()


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
