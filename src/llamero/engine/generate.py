"""The loop: read what is pending, choose, repeat. It speaks token ids and knows no text.

A step is one forward pass over the pending tokens of one or more sequences, so a scheduler of many requests calls
`Engine.step` with many and hands each row of logits to its `Run.accept`; `Engine.generate` is that loop for one.
The engine owns the cache and alone advances it. It may be used from several threads: a lock covers each step, and
streams that are read in turns each keep their own sequence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from collections.abc import Sequence as Ids
from time import perf_counter
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from llamero.engine.adapters import Adapters
from llamero.engine.pool import Pool
from llamero.engine.request import Request, Run, check_ids
from llamero.engine.sampling import Choice
from llamero.engine.sequence import Sequence
from llamero.errors import ContextOverflow, WeightsError
from llamero.model.adapter import Adapter
from llamero.model.cache import Cache
from llamero.model.llama import head, hidden
from llamero.model.weights import Weights
from llamero.ops.protocol import A, CacheKind, Ops, Span, W

Progress = Callable[[int, int], None]
"""Called with how many pending tokens have been read, and how many there are in all."""


class Engine(Generic[A, W]):
    """One model's weights, its cache of `context` tokens, and the sequences in it.

    vocab: the ids that may be read and chosen are those below it; None is all. chunk: how many prompt tokens one
    forward pass reads at most; progress and Ctrl-C come between passes. `adapters`: LoRA adapters, by name.
    """

    def __init__(
        self,
        ops: Ops[A, W],
        weights: Weights[W],
        *,
        context: int,
        cache: CacheKind = "f16",
        vocab: int | None = None,
        chunk: int = 512,
    ) -> None:
        self.ops, self.weights, self.context, self.chunk = ops, weights, context, chunk
        self.adapters = Adapters(ops, weights)
        self.vocab = min(vocab or weights.config.vocab, weights.config.vocab)
        self._cache = Cache(ops, weights.config, context, cache)
        self._pool = Pool(self._cache)
        self._lock = threading.RLock()

    def plan(self, request: Request) -> Run:
        """The request, checked against this model and context before any work.

        Raises ContextOverflow (with both counts) and SettingError.
        """
        adapter = self.adapters.get(request.adapter)
        return Run(request, vocab=self.vocab, context=self.context, adapter=adapter)

    def generate(self, run: Run, progress: Progress | None = None) -> Generator[Choice]:
        """The answer's tokens, one by one; `run` tells why it ended and what it took.

        progress: told while a prompt longer than one chunk is read. Raises WeightsError on logits that are not finite.
        """
        started = perf_counter()
        self.admit(run)
        try:
            while run.finish_reason is None:
                with self._lock:
                    choice = run.accept(self._read(run.sequence, progress))
                spent = perf_counter() - started
                if run.prompt_seconds:
                    run.answer_seconds += spent
                else:
                    run.prompt_seconds = spent
                if choice is not None:
                    yield choice
                started = perf_counter()
        finally:
            self.retire(run)

    def admit(self, run: Run) -> None:
        """Begin a run with what the cache holds of its prompt."""
        with self._lock:
            run.begin(self._pool.admit(run.sequence.ids, run.sequence.adapter))

    def retire(self, run: Run) -> None:
        """End a run; what was read stays until its room is needed."""
        with self._lock:
            self._pool.retire(run.sequence)

    @property
    def pages(self) -> tuple[int, int]:
        """How many pages of the cache are in use, and how many are free."""
        return self._cache.used, self._cache.free

    def step(self, shares: Ids[tuple[Sequence, int]]) -> NDArray[np.float32]:
        """One forward pass over the next `count` pending tokens of each (sequence, count).

        Returns logits (rows, vocab): one row for each sequence that has nothing pending afterwards, in order.
        """
        with self._lock:
            x, ends = self._advance(shares)
            rows = [end - 1 for end, (sequence, _) in zip(ends, shares, strict=True) if not sequence.pending]
            if not rows:
                return np.empty((0, self.weights.config.vocab), np.float32)
            adapters = [(sequence.adapter, 1) for sequence, _ in shares if not sequence.pending]
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

    def embedding(
        self, ids: Ids[int], progress: Progress | None = None, adapter: str | None = None
    ) -> NDArray[np.float32]:
        """The mean over all tokens of the last layer's normed output, scaled to length 1 (dim,)."""
        config = self.weights.config
        total = np.zeros(config.dim, np.float64)
        for _, _, x in self._residuals(ids, progress, self.adapters.get(adapter)):
            normed = self.ops.rms_norm(x, self.weights.norm, config.norm_eps)
            total += self.ops.numpy(normed).sum(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(total))
        if not (np.isfinite(length) and length > 0):
            raise WeightsError(
                "the model's output has no finite length: its weights are damaged; see `llamero inspect`"
            )
        return (total / length).astype(np.float32)

    def _read(self, sequence: Sequence, progress: Progress | None) -> NDArray[np.float32]:
        """Read all that is pending -> logits (vocab,) after the last token."""
        done, total = 0, sequence.pending
        while True:
            count = min(sequence.pending, self.chunk)
            logits = self.step([(sequence, count)])
            done += count
            if progress and total > self.chunk:
                progress(done, total)
            if not sequence.pending:
                row: NDArray[np.float32] = logits[0]
                return row

    def _residuals(
        self, ids: Ids[int], progress: Progress | None, adapter: Adapter[W] | None
    ) -> Iterator[tuple[int, int, A]]:
        """The residual stream of a sequence of its own, chunk by chunk: (first position, tokens, (tokens, dim))."""
        check_ids(ids, self.vocab)
        if len(ids) > self.context:
            message = f"{len(ids)} tokens do not fit the context of {self.context}"
            raise ContextOverflow(message, tokens=len(ids), context=self.context)
        sequence = Sequence(list(ids), adapter=adapter)
        try:
            while sequence.pending:
                start = sequence.held
                with self._lock:
                    x, _ = self._advance([(sequence, min(sequence.pending, self.chunk))])
                if progress and len(ids) > self.chunk:
                    progress(sequence.held, len(ids))
                yield start, sequence.held - start, x
        finally:
            with self._lock:
                self._pool.drop(sequence)

    def _head(self, x: A, adapters: Ids[tuple[Adapter[W] | None, int]]) -> NDArray[np.float32]:
        """Logits (rows, vocab) of the residual stream (rows, dim), so many rows with each adapter."""
        ops, weights = self.adapters.over(adapters)
        return self.ops.numpy(head(ops, weights, x))

    def _advance(self, shares: Ids[tuple[Sequence, int]]) -> tuple[A, list[int]]:
        """The residual stream (tokens, dim) of the shares' new tokens, now held, and where each share ends."""
        ids: list[int] = []
        ends: list[int] = []
        together = [sequence for sequence, _ in shares]
        for sequence, count in shares:
            self._pool.reserve(sequence, sequence.held + count, together)
            ids += sequence.ids[sequence.held : sequence.held + count]
            ends.append(len(ids))
        spans = [Span(sequence.held, count, tuple(sequence.pages)) for sequence, count in shares]
        ops, weights = self.adapters.over([(sequence.adapter, count) for sequence, count in shares])
        x = hidden(ops, weights, self._cache.store, ids, spans)
        for sequence, count in shares:
            sequence.held += count
        return x, ends
