"""What OpenAI's answers have in common: head, usage, timings."""

from __future__ import annotations

import secrets
import time
from typing import Any

from llamero.interfaces.server.answer import Begun, Times, Usage
from llamero.interfaces.server.fields import Shape


class PromptDetails(Shape):
    """cached_tokens: found in the cache, and not read again."""

    cached_tokens: int


class CompletionDetails(Shape):
    """Drafted tokens that were right, and those that were not."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class UsageBody(Shape):
    """Tokens. dropped_tokens is llamero's own: left out of the prompt because they did not fit."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    dropped_tokens: int


class TimingsBody(Shape):
    """llamero's own, of one answer (in a whole body the first): milliseconds to its first token, and on to its last."""

    prompt_ms: float
    completion_ms: float
    completion_per_second: float


class Head:
    """What stands in every chunk of an answer, or once in a whole one."""

    def __init__(self, kind: str, prefix: str) -> None:
        self.kind = kind
        self.id = f"{prefix}-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.model = self.fingerprint = ""

    def begun(self, event: Begun) -> None:
        """The request was accepted."""
        self.model, self.fingerprint = event.model, event.fingerprint

    def fields(self) -> dict[str, Any]:
        """The fields before the choices."""
        return {
            "id": self.id,
            "object": self.kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    """The usage as JSON."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": usage.drafted_tokens - usage.accepted_tokens,
        },
        "dropped_tokens": usage.dropped_tokens,
    }


def timings_body(times: Times) -> dict[str, Any]:
    """The timings as JSON."""
    speed = (times.tokens - 1) / times.writing if times.tokens > 1 and times.writing > 0 else 0.0
    return {
        "prompt_ms": round(times.reading * 1e3, 3),
        "completion_ms": round(times.writing * 1e3, 3),
        "completion_per_second": round(speed, 2),
    }
