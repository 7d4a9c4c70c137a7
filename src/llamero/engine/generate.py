"""The engine: a model's forward passes over sequences in a cache. It speaks token ids and knows no text.

A step is one forward pass over the pending tokens of one or more sequences. Who takes part is the scheduler's
(`schedule.py`): it hands each row of logits to its `Run.accept`. The engine owns the cache and alone advances it. It
may be used from several threads: a lock covers each step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from collections.abc import Sequence as Ids
from itertools import accumulate, takewhile
from types import MappingProxyType
from typing import Generic, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamero.engine.adapters import Adapters
from llamero.engine.pool import Pool
from llamero.engine.pull import Puller
from llamero.engine.request import Request, Run, check_ids
from llamero.engine.sampling import Choice, scored
from llamero.engine.schedule import Scheduler
from llamero.engine.sequence import Sequence
from llamero.engine.speculate import Speculation
from llamero.errors import ContextOverflow, WeightsError
from llamero.model.adapter import Adapter
from llamero.model.cache import Cache
from llamero.model.llama import head, hidden
from llamero.model.weights import Weights
from llamero.ops.protocol import A, CacheKind, Ops, Span, W

Progress = Callable[[int, int], None]
"""Called with how many pending tokens have been read, and how many there are in all."""

Ahead: TypeAlias = Mapping[Sequence, Ids[int]]
"""Guesses of what follows sequences, which a step reads along and which are not part of them."""

_NOTHING: Ahead = MappingProxyType({})
_ROWS = 64  # of logits at a time; with 128k tokens they are 32 MiB


class Engine(Generic[A, W]):
    """One model's weights, its cache, and the sequences in it.

    context: how many tokens one sequence may have. room: how many the cache holds, of all sequences together; None is
    one context. vocab: the ids that may be read and chosen are those below it; None is all. chunk: how many prompt
    tokens one forward pass reads at most; progress and Ctrl-C come between passes. lock: covers each step; whoever
    touches the pool holds it. scheduler: serves this engine's runs; there is one.
    adapters: LoRA adapters, by name. speculation: guesses what comes next, if that is wanted.
    """

    def __init__(
        self,
        ops: Ops[A, W],
        weights: Weights[W],
        *,
        context: int,
        room: int | None = None,
        cache: CacheKind = "f16",
        vocab: int | None = None,
        chunk: int = 512,
    ) -> None:
        self.ops, self.weights, self.context, self.chunk = ops, weights, context, chunk
        self.adapters = Adapters(ops, weights)
        self.vocab = min(vocab or weights.config.vocab, weights.config.vocab)
        self.pool = Pool(Cache(ops, weights.config, max(room or context, context), cache))
        self.lock = threading.Lock()
        self.speculation: Speculation | None = None
        self.scheduler = Scheduler(self)
        self._puller = Puller(self)

    def plan(self, request: Request) -> Run:
        """The request, checked against this model and context before any work.

        Raises ContextOverflow (with both counts) and SettingError.
        """
        adapter = self.adapters.get(request.adapter)
        return Run(request, vocab=self.vocab, context=self.context, adapter=adapter)

    def generate(self, run: Run, progress: Progress | None = None, *, whole: bool = False) -> Generator[Choice]:
        """The answer's tokens, one by one, each chosen when it is asked for; `run` tells why it ended and what it took.

        Several threads may do so: whoever wants a token steps, for all who want one. whole: all tokens are wanted at
        once; they may be chosen while others step. progress: told while a prompt longer than one chunk is read.
        Raises what went wrong with this run.
        """
        return self._puller.generate(run, progress, whole=whole)

    def step(self, shares: Ids[tuple[Sequence, int]]) -> NDArray[np.float32]:
        """One forward pass over the next `count` pending tokens of each (sequence, count).

        Returns logits (rows, vocab): one row for each sequence that has nothing pending afterwards, in order.
        """
        with self.lock:
            return self.forward(shares)

    def forward(self, shares: Ids[tuple[Sequence, int]], ahead: Ahead = _NOTHING) -> NDArray[np.float32]:
        """`step`, for those who hold the lock. Each token of `ahead` has a row after that of its sequence."""
        x, ends = self._advance(shares, ahead)
        rows: list[int] = []
        adapters: list[tuple[Adapter[W] | None, int]] = []
        for end, (sequence, _) in zip(ends, shares, strict=True):
            if not sequence.pending:
                more = len(ahead.get(sequence, ()))
                rows += range(end - more - 1, end)
                adapters.append((sequence.adapter, more + 1))
        if not rows:
            return np.empty((0, self.weights.config.vocab), np.float32)
        return self._head(self.ops.take(x, rows), adapters)

    def logits(
        self, ids: Ids[int], progress: Progress | None = None, adapter: str | None = None
    ) -> NDArray[np.float32]:
        """Logits (tokens, vocab) of the next token after each of `ids`, of the model with that adapter."""
        changed = self.adapters.get(adapter)
        out = np.empty((len(ids), self.weights.config.vocab), np.float32)
        for start, count, x in self._residuals(ids, progress, changed):
            out[start : start + count] = self._head(x, [(changed, count)])
        return out

    def scores(
        self, ids: Ids[int], top: int = 0, progress: Progress | None = None, adapter: str | None = None
    ) -> Iterator[Choice]:
        """Each of `ids` but the first, with the logarithm of the probability that the model gave it after those before.

        top: how many likeliest tokens are told in its place. Logits are made a few rows at a time.
        """
        changed = self.adapters.get(adapter)
        for start, count, x in self._residuals(ids, progress, changed):
            for first in range(0, count, _ROWS):
                rows = range(first, min(first + _ROWS, count))
                following = ids[start + first + 1 : start + rows.stop + 1]
                logits = self._head(self.ops.take(x, rows), [(changed, len(rows))])[:, : self.vocab]
                for token, row in zip(following, logits, strict=False):  # after the last there is none
                    yield scored(row, token, top)

    def embedding(
        self, ids: Ids[int], progress: Progress | None = None, adapter: str | None = None
    ) -> NDArray[np.float32]:
        """The mean over all tokens of the last layer's normed output, scaled to length 1 (dim,)."""
        changed = self.adapters.get(adapter)
        if len(ids) <= self.chunk:
            return next(self._embedded([ids], changed))
        total = np.zeros(self.weights.config.dim, np.float64)
        for _, _, x in self._residuals(ids, progress, changed):
            total += self._normed(self.ops, self.weights, x).sum(axis=0, dtype=np.float64)
        return _scaled(total)

    def embeddings(
        self, texts: Ids[Ids[int]], progress: Progress | None = None, adapter: str | None = None
    ) -> NDArray[np.float32]:
        """The `embedding` of each text (texts, dim); short ones are read together, a chunk at a time, past the cache.

        progress: told between passes how many texts are done, and how many there are.
        """
        rows: list[NDArray[np.float32]] = []

        def told(*_: int) -> None:
            if progress:
                progress(len(rows), len(texts))

        while len(rows) < len(texts):
            group = self._group(texts[len(rows) :])
            if len(group) == 1:
                rows.append(self.embedding(group[0], told, adapter))
            else:
                rows.extend(self._embedded(group, self.adapters.get(adapter)))
            told()
        return np.array(rows, np.float32).reshape(len(texts), self.weights.config.dim)

    def _group(self, texts: Ids[Ids[int]]) -> Ids[Ids[int]]:
        """The first texts, as many as fit a chunk together; one in any case."""
        ends = accumulate(map(len, texts))
        return texts[: max(1, sum(1 for _ in takewhile(lambda end: end <= self.chunk, ends)))]

    def _embedded(self, texts: Ids[Ids[int]], adapter: Adapter[W] | None) -> Iterator[NDArray[np.float32]]:
        ids = [token for text in texts for token in text]
        for text in texts:
            self._check(text)
        with self.lock:
            ops, weights = self.adapters.over([(adapter, len(ids))])
            normed = self._normed(ops, weights, hidden(ops, weights, None, ids, [Span(0, len(text)) for text in texts]))
        starts = accumulate(map(len, texts[:-1]), initial=0)
        return map(_scaled, np.add.reduceat(normed, list(starts), axis=0, dtype=np.float64))

    def _residuals(
        self, ids: Ids[int], progress: Progress | None, adapter: Adapter[W] | None
    ) -> Iterator[tuple[int, int, A]]:
        """The residual stream of a sequence of its own, chunk by chunk: (first position, tokens, (tokens, dim))."""
        self._check(ids)
        sequence = Sequence(list(ids), adapter=adapter)
        try:
            while sequence.pending:
                start = sequence.held
                with self.lock:
                    x, _ = self._advance([(sequence, min(sequence.pending, self.chunk))])
                if progress and len(ids) > self.chunk:
                    progress(sequence.held, len(ids))
                yield start, sequence.held - start, x
        finally:
            with self.lock:
                self.pool.drop(sequence)

    def _check(self, ids: Ids[int]) -> None:
        check_ids(ids, self.vocab)
        if len(ids) > self.context:
            message = f"{len(ids)} tokens do not fit the context of {self.context}"
            raise ContextOverflow(message, tokens=len(ids), context=self.context)

    def _normed(self, ops: Ops[A, W], weights: Weights[W], x: A) -> NDArray[np.float32]:
        return ops.numpy(ops.rms_norm(x, weights.norm, weights.config.norm_eps))

    def _head(self, x: A, adapters: Ids[tuple[Adapter[W] | None, int]]) -> NDArray[np.float32]:
        """Logits (rows, vocab) of the residual stream (rows, dim), so many rows with each adapter."""
        ops, weights = self.adapters.over(adapters)
        return self.ops.numpy(head(ops, weights, x))

    def _advance(self, shares: Ids[tuple[Sequence, int]], ahead: Ahead = _NOTHING) -> tuple[A, list[int]]:
        """The residual stream (tokens, dim) of the shares' new tokens, now held, and where each share ends."""
        ids: list[int] = []
        ends: list[int] = []
        spans: list[Span] = []
        together = [sequence for sequence, _ in shares]
        for sequence, count in shares:
            new = [*sequence.ids[sequence.held : sequence.held + count], *ahead.get(sequence, ())]
            self.pool.reserve(sequence, sequence.held + len(new), self._victims(together))
            ids += new
            ends.append(len(ids))
            spans.append(Span(sequence.held, len(new), tuple(sequence.pages)))
        adapters = [(sequence.adapter, span.length) for (sequence, _), span in zip(shares, spans, strict=True)]
        ops, weights = self.adapters.over(adapters)
        x = hidden(ops, weights, self.pool.cache.store, ids, spans)
        for sequence, count in shares:
            sequence.held += count
        return x, ends

    def _victims(self, together: Ids[Sequence]) -> Iterator[Sequence]:
        """Who gives way to these, the youngest first; texts that are read for their own sake do not."""
        for other in reversed(self.pool.working):
            if other.space is not None and other not in together:
                yield other


def _scaled(total: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same direction, of length 1. Raises WeightsError where there is none."""
    length = float(np.linalg.norm(total))
    if not (np.isfinite(length) and length > 0):
        raise WeightsError("the model's output has no finite length: its weights are damaged; see `llamero inspect`")
    return (total / length).astype(np.float32)
