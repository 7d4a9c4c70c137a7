"""The choices of one step: each run's own chain over its own row, several rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from llamero.engine.request import Run
from llamero.engine.sampling import Choice, Logits

Outcome: TypeAlias = Choice | Exception | None
"""What `Run.accept` gave, or raised."""

_FEW = 4  # rows that are done before a thread has woken up


class Choosers:
    """Threads that share out the rows; numpy lets go of the interpreter's lock in each pass over a vocabulary."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def choose(self, runs: Sequence[Run], logits: Sequence[Logits]) -> list[Outcome]:
        """Each run chooses from its logits (vocab,); what goes wrong with one is its outcome."""
        parts = min(self._threads, len(runs) // _FEW)
        if parts < 2:
            return [_outcome(run, row) for run, row in zip(runs, logits, strict=True)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="llamero choosing")
        outcomes: list[Outcome] = [None] * len(runs)

        def work(part: int) -> None:
            for index in range(part, len(runs), parts):
                outcomes[index] = _outcome(runs[index], logits[index])

        others = [self._pool.submit(work, part) for part in range(1, parts)]
        try:
            work(0)
        finally:  # Ctrl-C leaves nobody behind who still chooses
            for other in others:
                other.result()
        return outcomes


def _outcome(run: Run, logits: Logits) -> Outcome:
    try:
        return run.accept(logits)
    except Exception as error:  # this run alone has failed
        return error
