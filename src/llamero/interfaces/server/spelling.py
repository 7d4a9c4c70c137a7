"""Tokens as they are told: ids become bytes."""

from __future__ import annotations

from collections.abc import Callable

from llamero.engine.sampling import Choice
from llamero.interfaces.server.answer import Spelt

_LEAST = -9999.0  # JSON knows no infinity; OpenAI tells this number too


def spelt(choice: Choice, spell: Callable[[int], bytes]) -> Spelt:
    """A choice with the bytes of its token, and of those that were likeliest in its place."""
    top = tuple(Spelt(token, spell(token), max(logprob, _LEAST)) for token, logprob in choice.top)
    logprob = None if choice.logprob is None else max(choice.logprob, _LEAST)
    return Spelt(choice.id, spell(choice.id), logprob, top)
