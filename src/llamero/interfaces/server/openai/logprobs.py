"""Logarithms of probabilities, as chats tell them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llamero.interfaces.server.answer import Spelt
from llamero.interfaces.server.fields import Shape


class TopLogprob(Shape):
    """A token that might have come. bytes: its own, also where they are half a character."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token that came."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Shape):
    """One entry for each token of the content."""

    content: list[TokenLogprob]
    refusal: None


def chat_logprobs(tokens: Iterable[Spelt]) -> dict[str, Any]:
    """The tokens as JSON."""
    return {
        "content": [_told(token) | {"top_logprobs": [_told(top) for top in token.top]} for token in tokens],
        "refusal": None,
    }


def _told(token: Spelt) -> dict[str, Any]:
    return {
        "token": token.spelling.decode("utf-8", "replace"),
        "bytes": list(token.spelling),
        "logprob": token.logprob,
    }
