"""The sequences that share one cache: what they find there, what they leave to others, and who must give way.

A page that was filled is put into the tree at once, so that whoever has the same beginning need not read it again, in
a later request or in one that runs beside. A page that is shared in part is copied. Pages that nobody holds stay until
room is needed; then those unused for longest go, and after them the pages of whole sequences, which read their tokens
again when their turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llamero.engine.sequence import Sequence
from llamero.engine.tree import Node, Tree
from llamero.errors import ContextOverflow
from llamero.model.cache import Cache

_WORTHWHILE = 2  # tokens; a common BOS alone is no reason to copy


class Pool:
    """Hands out pages to sequences. Not thread-safe by itself: the engine's lock is held."""

    def __init__(self, cache: Cache[Any, Any]) -> None:
        self.cache = cache
        self._tree = Tree(cache.page)
        self._working: dict[Sequence, None] = {}  # those that hold pages, longest first

    @property
    def working(self) -> list[Sequence]:
        """The sequences that hold pages, in the order in which they began."""
        return list(self._working)

    @property
    def available(self) -> int:
        """How many pages could be had without taking any from a sequence."""
        return self.cache.free + self.cache.idle

    def follow(self, sequence: Sequence) -> int:
        """Take over whole pages that hold the sequence's next tokens -> tokens gained.

        The last token is never taken over: its logits are wanted.
        """
        size, before = self.cache.page, sequence.held
        while (settled := sequence.settled + 1) * size < len(sequence.ids):
            child = self._next(sequence)
            if child is None or sequence.held >= settled * size:
                break
            self.cache.hold(child.page)
            self._shorten(sequence, sequence.settled)  # its own half of this page, if it has one
            sequence.pages.append(child.page)
            sequence.node, sequence.settled, sequence.held = child, settled, settled * size
            self._working[sequence] = None
        return sequence.held - before

    def found(self, sequence: Sequence) -> int:
        """How many tokens a sequence that has nothing yet would take over, or copy. Nothing changes."""
        size, ids = self.cache.page, sequence.ids
        node, held = self._node(sequence), 0
        while held + size < len(ids) and (child := node.children.get(tuple(ids[held : held + size]))):
            node, held = child, held + size
        _, common = self._tree.nearest(node, ids[held : min(held + size, len(ids) - 1)])
        return held + (common if held + common >= _WORTHWHILE else 0)

    def borrow(self, sequence: Sequence) -> int:
        """Copy the page that shares most of the sequence's next tokens, if there is room -> tokens gained."""
        if sequence.space is None:
            return 0
        size, before = self.cache.page, sequence.held
        start = sequence.settled * size
        wanted = sequence.ids[start : min(start + size, len(sequence.ids) - 1)]
        child, common = self._tree.nearest(self._node(sequence), wanted)
        if child is None or start + common < before + _WORTHWHILE:
            return 0
        self.cache.hold(child.page)  # or it might be the one that gives way
        try:
            self.reserve(sequence, start + common, ())
            self.cache.copy(child.page, sequence.pages[sequence.settled], common)
            self.cache.drop(child.page)
            self._tree.touch(child)
        except ContextOverflow:
            if child.children or self.cache.holders(child.page) > 1:
                self.cache.drop(child.page)
                return 0
            self._forget(child)  # there is no room for both: the page itself is taken over
            sequence.pages.append(child.page)
            self._working[sequence] = None
        sequence.held = start + common
        return sequence.held - before

    def reserve(self, sequence: Sequence, tokens: int, victims: Iterable[Sequence]) -> None:
        """Give the sequence pages for `tokens` tokens, from the idle and then from `victims`, in order, if need be.

        Raises ContextOverflow when even that is not enough; what was taken until then is kept.
        """
        giving = iter(victims)
        missing = -(-tokens // self.cache.page) - len(sequence.pages)
        for _ in range(missing):
            while not self.cache.free:
                if not self._evict():
                    victim = next(giving, None)
                    if victim is None:
                        room = len(sequence.pages) * self.cache.page
                        message = f"{tokens} tokens do not fit the cache, which has room for {room}"
                        raise ContextOverflow(message, tokens=tokens, context=room)
                    self.release(victim)
            sequence.pages.append(self.cache.take())
            self._working[sequence] = None

    def settle(self, sequence: Sequence, *, tail: bool = False) -> None:
        """Share the full pages of what is held; with `tail` also what the last one holds by now."""
        if sequence.space is None:
            return
        size = self.cache.page
        while (sequence.settled + 1) * size <= sequence.held:
            self._settle_page(sequence)
        start = sequence.settled * size
        if tail and sequence.held - start >= _WORTHWHILE:
            self._settle_tail(sequence, tuple(sequence.ids[start : sequence.held]))

    def release(self, sequence: Sequence) -> None:
        """Take away a sequence's pages; what others may use of them stays until room is needed."""
        self.settle(sequence, tail=True)
        self.drop(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Take away a sequence's pages; what it has not shared yet is lost."""
        if sequence.node is not None and sequence.settled:
            self._tree.touch(sequence.node)
        self._shorten(sequence, 0)
        sequence.held = sequence.settled = 0
        sequence.node = None
        self._working.pop(sequence, None)

    def _next(self, sequence: Sequence) -> Node | None:
        """The node of the sequence's next page, if the tree has it whole."""
        start = sequence.settled * self.cache.page
        key = tuple(sequence.ids[start : start + self.cache.page])
        return None if sequence.space is None else self._node(sequence).children.get(key)

    def _node(self, sequence: Sequence) -> Node:
        return sequence.node or self._tree.root(sequence.space)

    def _settle_page(self, sequence: Sequence) -> None:
        index, size = sequence.settled, self.cache.page
        page, known = sequence.pages[index], self._next(sequence)
        if known is None:
            ids = tuple(sequence.ids[index * size : (index + 1) * size])
            known = self._enter(sequence, ids)
        elif known is not sequence.tail:  # another sequence was as fast: one copy is enough
            self._forget(sequence.tail)
            self.cache.hold(known.page)
            self.cache.drop(page)
            sequence.pages[index] = known.page
        sequence.node, sequence.settled, sequence.tail = known, index + 1, None

    def _settle_tail(self, sequence: Sequence, ids: tuple[int, ...]) -> None:
        if sequence.tail is not None and sequence.tail.ids == ids:
            return
        _, common = self._tree.nearest(self._node(sequence), ids)
        if common < len(ids):  # nobody has all of it
            sequence.tail = self._enter(sequence, ids)

    def _enter(self, sequence: Sequence, ids: tuple[int, ...]) -> Node:
        """Put the page after the settled ones into the tree, or tell the tree that it holds more."""
        if sequence.tail is not None:
            self._tree.grow(sequence.tail, ids)
            return sequence.tail
        page = sequence.pages[sequence.settled]
        self.cache.keep(page)
        return self._tree.add(self._node(sequence), ids, page)

    def _shorten(self, sequence: Sequence, pages: int) -> None:
        """Let go of all pages but the first ones."""
        for page in sequence.pages[pages:]:
            self.cache.drop(page)
        del sequence.pages[pages:]
        sequence.tail = None

    def _evict(self) -> bool:
        """Free the page that nobody has used for longest."""
        node = next((node for node in self._tree.oldest() if not self.cache.holders(node.page)), None)
        self._forget(node)
        return node is not None

    def _forget(self, node: Node | None) -> None:
        if node is not None:
            self._tree.remove(node)
            self.cache.forget(node.page)
