"""Errors in Anthropic's shape."""

from __future__ import annotations

from typing import Any, Literal

from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.refusals import Refusal

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class MessagesErrorDetail(Shape):
    """What is wrong, and of which kind."""

    type: str
    message: str


class MessagesErrorBody(Shape):
    """The body of every answer that is not 200."""

    type: Literal["error"]
    error: MessagesErrorDetail


def messages_error(refusal: Refusal) -> dict[str, Any]:
    """The refusal as JSON."""
    kind = _KINDS.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}
