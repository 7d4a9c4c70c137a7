"""One request to an ASGI app, byte by byte as it is wanted: what a polite client cannot send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from llamero.interfaces.server.door.asgi import App, Message, Receive, Scope, Send

HOST = (b"host", b"localhost:8000")


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


async def _ask(
    app: App,
    path: str = "/v1/models",
    headers: Sequence[tuple[bytes, bytes]] = (),
    method: str = "GET",
    body: Sequence[bytes] = (b"",),
    pause: float = 0.0,
) -> Answer:
    """Ask, with the body in pieces that come `pause` seconds apart; afterwards the client waits."""
    heard = list(headers) if any(name == b"host" for name, _ in headers) else [HOST, *headers]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": heard,
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
        "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    pieces = list(body)
    answer = Answer()

    async def receive() -> Message:
        if not pieces:
            await asyncio.sleep(3600)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            answer.whole = not message.get("more_body", False)

    await app(scope, receive, send)
    return answer


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that tells who asked, and how many bytes came."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = json.dumps({"owner": scope.get("state", {}).get("owner"), "size": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="session")
def ask() -> Any:
    """Asks an app: see `_ask`."""
    return _ask


@pytest.fixture(scope="session")
def echo() -> App:
    """An app that tells who asked, and how many bytes came."""
    return _echo
