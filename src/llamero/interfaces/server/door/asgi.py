"""The words of ASGI, and how a request is turned away before any route is asked: in the shape that its client reads."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from llamero.interfaces.server.anthropic.errors import messages_error
from llamero.interfaces.server.openai.errors import error_body
from llamero.interfaces.server.refusals import Refusal

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

_ANTHROPIC = "/v1/messages"


def header(scope: Scope, name: bytes) -> bytes:
    """A header's value, b"" where there is none. name: in small letters."""
    return next((value for key, value in scope["headers"] if key == name), b"")


async def turn_away(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer the request with the refusal."""
    await respond(refusal.status, _body(refusal, scope["path"]), send, refusal.headers)


async def respond(status: int, body: Mapping[str, Any], send: Send, headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON."""
    data = json.dumps(body).encode()
    told = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    told += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": data, "more_body": False})


def last_event(refusal: Refusal, path: str) -> bytes:
    """The refusal as the last server-sent event of a stream that has begun."""
    name = b"event: error\n" if path.startswith(_ANTHROPIC) else b""
    return name + b"data: " + json.dumps(_body(refusal, path)).encode() + b"\n\n"


def _body(refusal: Refusal, path: str) -> dict[str, Any]:
    return messages_error(refusal) if path.startswith(_ANTHROPIC) else error_body(refusal)
