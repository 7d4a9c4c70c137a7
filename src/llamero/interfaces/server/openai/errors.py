"""Errors in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.refusals import Refusal


class ErrorDetail(Shape):
    """What is wrong, of which kind, in which field, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Shape):
    """The body of every answer that is not 200."""

    error: ErrorDetail


def error_body(refusal: Refusal) -> dict[str, Any]:
    """The refusal as JSON."""
    return {
        "error": {
            "message": refusal.message,
            "type": refusal.kind,
            "param": refusal.param,
            "code": refusal.code,
        }
    }
