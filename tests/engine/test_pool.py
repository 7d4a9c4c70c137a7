"""The pool in random use: no page is freed while used, overwritten while shared, lost, or found by the wrong owner."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from llamero.engine.pool import Pool
from llamero.engine.sequence import Sequence
from llamero.engine.tree import Node
from llamero.errors import ContextOverflow
from llamero.model.cache import Cache
from llamero.model.config import Config
from llamero.ops.numpy_ops import NumpyOps

SIZE = 4
CONFIG = Config(dim=8, layers=2, heads=1, kv_heads=1, head_dim=8, ffn_dim=8, vocab=4, context=64)
BEGINNING = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
tokens = st.builds(
    lambda cut, rest: BEGINNING[:cut] + rest, st.integers(0, 16), st.lists(st.integers(0, 1), min_size=1, max_size=4)
)


class PoolMachine(RuleBasedStateMachine):
    """Sequences of few tokens, so that beginnings are often shared, in a cache with hardly room for two of them."""

    sequences = Bundle("sequences")

    @initialize(pages=st.integers(3, 8))
    def open(self, pages: int) -> None:
        self.pool = Pool(Cache(NumpyOps(), CONFIG, pages * SIZE, "f32", page=SIZE))
        self.cache = self.pool.cache
        self.alive: list[Sequence] = []
        self.numbers: dict[Any, int] = {}

    @rule(target=sequences, ids=tokens, space=st.sampled_from(["a", "a", "a", "b", None]))
    def begin(self, ids: list[int], space: str | None) -> Sequence:
        sequence = Sequence(ids, space)
        self.alive.append(sequence)
        return sequence

    @rule(sequence=sequences)
    def find(self, sequence: Sequence) -> None:
        """Follow and borrow find exactly what a search of everything finds."""
        if sequence not in self.alive or sequence.tail is not None:
            return
        before, best = sequence.held, max(self.common(sequence), default=0)
        self.pool.follow(sequence)
        whole = max(before, best // SIZE * SIZE)
        assert sequence.held == whole
        room = self.pool.available
        self.pool.borrow(sequence)
        if best - whole < 2:
            assert sequence.held == whole
        elif room:
            assert sequence.held == best
        else:
            assert sequence.held in (whole, best)

    @rule(sequence=sequences, count=st.integers(1, 9), tail=st.booleans(), data=st.data())
    def read(self, sequence: Sequence, count: int, tail: bool, data: Any) -> None:
        """What a forward pass does: pages, then keys, then the pool is told."""
        count = min(count, sequence.pending)
        if sequence not in self.alive or not count:
            return
        others = [other for other in self.alive if other is not sequence and data.draw(st.booleans())]
        try:
            self.pool.reserve(sequence, sequence.held + count, others)
        except ContextOverflow:
            assert not self.cache.free
            return
        for at in range(sequence.held, sequence.held + count):
            page, slot = sequence.pages[at // SIZE], at % SIZE
            self.cache.store.keys[:, page, slot] = self.number(sequence, at)
        sequence.held += count
        self.pool.settle(sequence, tail=tail)

    @rule(sequence=sequences, token=st.integers(0, 1))
    def write(self, sequence: Sequence, token: int) -> None:
        if len(sequence.ids) < 20:
            sequence.ids.append(token)

    @rule(sequence=sequences, keep=st.booleans())
    def give_way(self, sequence: Sequence, keep: bool) -> None:
        (self.pool.release if keep else self.pool.drop)(sequence)
        assert (sequence.held, sequence.pages) == (0, [])

    @rule(sequence=consumes(sequences))
    def end(self, sequence: Sequence) -> None:
        if sequence in self.alive:
            self.alive.remove(sequence)
            self.pool.release(sequence)

    @invariant()
    def everybody_has_what_they_read(self) -> None:
        for sequence in getattr(self, "alive", []):
            assert len(sequence.pages) * SIZE >= sequence.held
            for at in range(sequence.held):
                kept = self.cache.store.keys[1, sequence.pages[at // SIZE], at % SIZE, 0, 0]
                assert kept == self.number(sequence, at), "a page was written, or freed, by somebody else"
        for space, path, node in self.nodes():
            for at in range(len(path) - len(node.ids), len(path)):
                kept = self.cache.store.keys[0, node.page, at % SIZE, 0, 0]
                assert kept == self.numbers[space, path[: at + 1]]

    @invariant()
    def every_page_is_accounted_for(self) -> None:
        if not hasattr(self, "pool"):
            return
        held = [page for sequence in self.alive for page in sequence.pages]
        kept = [node.page for _, _, node in self.nodes()]
        assert len(kept) == len(set(kept)) == len(self.pool._tree)
        assert all(root.children for root in self.pool._tree._roots.values())
        assert [self.cache.holders(page) for page in range(self.cache.pages)] == [
            held.count(page) for page in range(self.cache.pages)
        ]
        assert self.cache.idle == len(set(kept) - set(held))
        assert self.cache.free == self.cache.pages - len({*kept, *held})
        assert set(self.pool.working) == {sequence for sequence in self.alive if sequence.pages}

    def number(self, sequence: Sequence, at: int) -> int:
        """A number for a token in its place: what its keys depend on."""
        return self.numbers.setdefault((sequence.space, tuple(sequence.ids[: at + 1])), len(self.numbers) + 1)

    def nodes(self) -> list[tuple[Any, tuple[int, ...], Node]]:
        """All nodes with their spaces and the tokens from the start to their ends."""
        found: list[tuple[Any, tuple[int, ...], Node]] = []
        if hasattr(self, "pool"):
            open_ = [(space, (), root) for space, root in self.pool._tree._roots.items()]
            while open_:
                space, path, node = open_.pop()
                below = [(space, path + child.ids, child) for child in node.children.values()]
                found += below
                open_ += below
        return found

    def common(self, sequence: Sequence) -> list[int]:
        """How many of the sequence's tokens each node of its space has, the last token aside."""
        wanted = sequence.ids[:-1]
        return [
            next((i for i, (a, b) in enumerate(zip(path, wanted, strict=False)) if a != b), min(len(path), len(wanted)))
            for space, path, _ in self.nodes()
            if space == sequence.space
        ]


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
