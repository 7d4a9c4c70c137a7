"""What a client is told when something cannot be done: one mapping from our errors to HTTP, for every dialect."""

from __future__ import annotations

from dataclasses import dataclass, field

from llamero.errors import (
    ConstraintError,
    ContextOverflow,
    DeviceError,
    LlameroError,
    LoadError,
    ModelNotFound,
    QueueFull,
    SettingError,
    TemplateError,
    TokenizerError,
)


@dataclass
class Refusal(Exception):
    """An answer that is not given. kind: OpenAI's `type` of an error; code: its `code`; param: the field at fault."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = "invalid_value"
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


_MISTAKES = (SettingError, TemplateError, TokenizerError, ConstraintError)


def refusal(error: BaseException, retry_after: int = 1) -> Refusal:
    """What to tell of an error. What we did not raise on purpose is told without details."""
    if isinstance(error, Refusal):
        return error
    words = str(error)
    if isinstance(error, ContextOverflow):
        return Refusal(400, words, code="context_length_exceeded")
    if isinstance(error, ModelNotFound):
        return Refusal(404, words, code="model_not_found", param="model")
    if isinstance(error, QueueFull):
        again = {"Retry-After": str(retry_after)}
        return Refusal(429, words, kind="rate_limit_error", code="rate_limit_exceeded", headers=again)
    if isinstance(error, DeviceError):
        return Refusal(503, words, kind="server_error", code="unavailable", headers={"Retry-After": str(retry_after)})
    if isinstance(error, _MISTAKES):
        return Refusal(400, words, code="invalid_value")
    if isinstance(error, LoadError):
        return Refusal(500, words, kind="server_error", code="model_not_loaded", param="model")
    if isinstance(error, LlameroError):
        return Refusal(500, words, kind="server_error", code="model_error")
    return Refusal(500, "something went wrong in the server; its log says what", kind="server_error", code=None)
