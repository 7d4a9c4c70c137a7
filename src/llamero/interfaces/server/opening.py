"""How a server opens a model's file, and what a model will be counted with before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llamero.engine.generate import Progress
from llamero.formats.open import open_model_file
from llamero.interfaces.llama import Llama, default_context
from llamero.interfaces.server.catalogue import Entry
from llamero.model.cache import cache_bytes
from llamero.model.weights import config_of
from llamero.ops.protocol import CacheKind


@dataclass(frozen=True, kw_only=True)
class Opener:
    """The same settings for all models; see `Llama`. context is the room for all answers of a model together."""

    context: int | None = None
    threads: int | None = None
    device: str = "cpu"
    deterministic: bool = False
    cache: CacheKind = "f16"
    chat_template: str | None = None

    def needs(self, entry: Entry) -> int:
        """Bytes of the weights, of adapters, and of the whole cache. Reads only heads; raises what opening would."""
        reader = open_model_file(entry.path)
        try:
            weights = sum(info.nbytes for info in reader.tensors.values())
            config = config_of(reader)
        finally:
            reader.close()
        adapters = sum(_size(path) for path in entry.adapters.values())
        return weights + adapters + cache_bytes(config, default_context(self.context, config), self.cache)

    def open(self, entry: Entry, progress: Progress) -> Llama:
        """The model, ready. Raises what `Llama` raises."""
        return Llama(
            entry.path,
            context=self.context,
            threads=self.threads,
            device=self.device,
            deterministic=self.deterministic,
            cache=self.cache,
            chat_template=self.chat_template,
            adapters=dict(entry.adapters),
            progress=progress,
        )


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
