"""A run that is served, and who waits for its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.engine.speculate import Trial


class Listener(Protocol):
    """Who waits for an answer. Called by the thread that steps; must return quickly, may call `submit` and `cancel`."""

    def read(self, done: int, total: int) -> None:
        """So many tokens of the prompt have been read, or found in the cache, of so many."""
        ...

    def chose(self, choice: Choice) -> None:
        """The next token of the answer."""
        ...

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes; `run.finish_reason` says why, and is None after an error or a cancellation."""
        ...


@dataclass(eq=False)
class Task:
    """A run and its listener. unread: tokens of its prompt, 0 once it was read. trial: guesses to look at."""

    run: Run
    listener: Listener
    unread: int
    trial: Trial | None = None

    @property
    def writes(self) -> bool:
        """Whether one token is to be read, and the next one chosen then."""
        return self.run.sequence.pending == 1 and not self.run.paused

    @property
    def reads(self) -> bool:
        """Whether more is to be read, or again what was chosen from last."""
        return self.run.sequence.pending != 1 and not self.run.paused


Share: TypeAlias = tuple[Task, int]
"""How many of its tokens a task has in a step."""
