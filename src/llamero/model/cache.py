"""The keys and values of the past, in pages; given to forward, owned and advanced by the engine."""

from __future__ import annotations

from typing import Generic

from llamero.errors import ContextOverflow, SettingError, nearest
from llamero.model.config import Config
from llamero.ops.protocol import A, CacheKind, Ops, Store, StoreShape, W

_PAGE = 64  # tokens; small enough to share prefixes, large enough to stream
_BITS: dict[str, float] = {"f32": 32, "f16": 16, "q8_0": 8.5}


class Cache(Generic[A, W]):
    """Pages of one model's keys and values, and who has them. Memory is touched only as pages are written.

    A page has any number of holders, the sequences at work in it, and may be kept for whoever comes later. It is free
    when neither is so; idle when it is kept and nobody holds it. `tokens` is the room of all pages, `page` that of one.
    """

    def __init__(
        self, ops: Ops[A, W], config: Config, tokens: int, kind: CacheKind = "f16", *, page: int = _PAGE
    ) -> None:
        if kind not in _BITS:
            raise SettingError(f"cache kind {kind!r} is unknown ({nearest(kind, _BITS)})")
        if tokens < 1:
            raise SettingError(f"a cache needs room for at least one token, got {tokens}")
        if kind == "q8_0" and config.head_dim % 32:
            raise SettingError(f"cache kind q8_0 needs heads a multiple of 32 wide; this model's are {config.head_dim}")
        self.kind, self.tokens, self.page = kind, tokens, page
        self.pages = -(-tokens // page)
        self._ops = ops
        self.store: Store = ops.store(
            StoreShape(config.layers, config.kv_heads, config.head_dim, self.pages, page, kind)
        )
        self._free = list(range(self.pages - 1, -1, -1))
        self._holders = [0] * self.pages
        self._kept = [False] * self.pages
        self._idle = 0

    @property
    def free(self) -> int:
        """How many pages are free."""
        return len(self._free)

    @property
    def idle(self) -> int:
        """How many pages are kept, and held by nobody."""
        return self._idle

    def holders(self, page: int) -> int:
        """How many hold a page."""
        return self._holders[page]

    def take(self) -> int:
        """A free page, now held. Raises ContextOverflow when there is none."""
        if not self._free:
            full = f"the cache is full: all {self.tokens} tokens are in use"
            raise ContextOverflow(full, tokens=self.tokens + 1, context=self.tokens)
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One more holds a page that is held or kept."""
        self._check(page)
        if not self._holders[page]:
            self._idle -= 1
        self._holders[page] += 1

    def drop(self, page: int) -> None:
        """One of its holders lets go of a page."""
        if not self._holders[page]:
            raise ValueError(f"page {page} is dropped by somebody who does not hold it")
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if self._kept[page]:
            self._idle += 1
        else:
            self._free.append(page)

    def keep(self, page: int) -> None:
        """Keep a page that is held, beyond its holders."""
        self._check(page)
        if self._kept[page]:
            raise ValueError(f"page {page} is kept twice")
        self._kept[page] = True

    def forget(self, page: int) -> None:
        """Keep a page no longer."""
        if not self._kept[page]:
            raise ValueError(f"page {page} is forgotten and was not kept")
        self._kept[page] = False
        if not self._holders[page]:
            self._idle -= 1
            self._free.append(page)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first `tokens` tokens of one page into another."""
        self._ops.copy(self.store, source, target, tokens)

    def _check(self, page: int) -> None:
        if not (self._holders[page] or self._kept[page]):
            raise ValueError(f"page {page} is free")


def cache_bytes(config: Config, tokens: int, kind: CacheKind = "f16") -> int:
    """Memory for the keys and values of `tokens` tokens, in bytes."""
    values = 2 * config.layers * config.kv_heads * config.head_dim * tokens
    return int(values * _BITS[kind] / 8)
