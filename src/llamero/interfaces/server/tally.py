"""The counts of one request, over all of its answers."""

from __future__ import annotations

from llamero.engine.request import Run
from llamero.interfaces.server.answer import Usage


class Tally:
    """prompt: tokens of all prompts. dropped: tokens left out of them before the engine saw them."""

    def __init__(self, prompt: int, dropped: int = 0) -> None:
        self._prompt, self._dropped = prompt, dropped
        self._written = self._drafted = self._accepted = 0
        self._cached: dict[tuple[int, ...], int] = {}

    def wrote(self, tokens: int) -> None:
        """So many more tokens of an answer."""
        self._written += tokens

    def ended(self, run: Run) -> None:
        """An answer is over. Answers to one prompt count as one: what the first of them found was there before."""
        prompt, found = run.request.prompt, run.cached_tokens
        self._cached[prompt] = min(found, self._cached.get(prompt, found))
        self._dropped += run.dropped_tokens
        self._drafted += run.drafted_tokens
        self._accepted += run.accepted_tokens

    def usage(self) -> Usage:
        """Up to now."""
        return Usage(
            prompt_tokens=self._prompt,
            cached_tokens=sum(self._cached.values()),
            completion_tokens=self._written,
            dropped_tokens=self._dropped,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
        )
