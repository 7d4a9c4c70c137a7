"""The keys and values of the past, in pages; given to forward, owned and advanced by the engine."""

from __future__ import annotations

from typing import Generic

from llamero.errors import ContextOverflow, SettingError, nearest
from llamero.model.config import Config
from llamero.ops.protocol import A, CacheKind, Ops, Store, StoreShape, W

_PAGE = 64  # tokens; small enough to share prefixes, large enough to stream
_BITS: dict[str, float] = {"f32": 32, "f16": 16, "q8_0": 8.5}


class Cache(Generic[A, W]):
    """Pages of one model's keys and values, handed out to sequences and taken back.

    `tokens` is the room for all sequences together. Memory is touched only as pages are written.
    """

    def __init__(self, ops: Ops[A, W], config: Config, tokens: int, kind: CacheKind = "f16") -> None:
        if kind not in _BITS:
            raise SettingError(f"cache kind {kind!r} is unknown ({nearest(kind, _BITS)})")
        if tokens < 1:
            raise SettingError(f"a cache needs room for at least one token, got {tokens}")
        if kind == "q8_0" and config.head_dim % 32:
            raise SettingError(f"cache kind q8_0 needs heads a multiple of 32 wide; this model's are {config.head_dim}")
        pages = -(-tokens // _PAGE)
        self.kind = kind
        self.tokens = tokens
        self.store: Store = ops.store(StoreShape(config.layers, config.kv_heads, config.head_dim, pages, _PAGE, kind))
        self.pages = pages
        self._free = list(range(pages - 1, -1, -1))

    @property
    def free(self) -> int:
        """How many pages nobody has."""
        return len(self._free)

    @property
    def used(self) -> int:
        """How many pages somebody has."""
        return self.pages - len(self._free)

    def extend(self, pages: list[int], tokens: int) -> None:
        """Make `pages` (a sequence's own list, changed in place) hold `tokens` tokens.

        Raises ContextOverflow when the cache is full; then nothing was taken.
        """
        missing = -(-tokens // _PAGE) - len(pages)
        if missing > len(self._free):
            room = (len(pages) + len(self._free)) * _PAGE
            raise ContextOverflow(
                f"{tokens} tokens do not fit the cache, which has room for {room}", tokens=tokens, context=room
            )
        for _ in range(missing):
            pages.append(self._free.pop())

    def release(self, pages: list[int], keep: int = 0) -> None:
        """Take back all but the pages of the first `keep` tokens."""
        kept = -(-keep // _PAGE)
        self._free.extend(reversed(pages[kept:]))
        del pages[kept:]


def cache_bytes(config: Config, tokens: int, kind: CacheKind = "f16") -> int:
    """Memory for the keys and values of `tokens` tokens, in bytes."""
    values = 2 * config.layers * config.kv_heads * config.head_dim * tokens
    return int(values * _BITS[kind] / 8)
