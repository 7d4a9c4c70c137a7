"""The bounds: bodies too large, too slow or never ending; requests that take too long; readers who do not read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llamero.interfaces.server.door.asgi import Receive, Scope, Send
from llamero.interfaces.server.door.bounds import Bounds, Limits

SMALL = Limits(body=1024, body_seconds=0.2, seconds=0.3)


def length(size: int | str) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(size).encode())]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (length(1024), [b"a" * 1024], 200),
        ([], [b"a" * 512, b"a" * 512], 200),
        (length(1025), [b"a"], 413),
        (length(10**30), [b"a"], 413),
        (length("-1"), [b"a"], 413),
        ([], [b"a" * 512, b"a" * 513], 413),
        ([(b"transfer-encoding", b"chunked")], [b"a" * 10] * 200, 413),
        (length(5), [b"a" * 2000], 413),
    ],
)
def test_bodies(ask: Any, echo: Any, headers: Any, body: list[bytes], status: int) -> None:
    bounds = Bounds(echo, SMALL)
    answer = asyncio.run(ask(bounds, "/v1/x", headers, "POST", body))
    assert answer.status == status
    if status == 413:
        assert answer.error["code"] == "request_too_large"
        assert "1024" in answer.error["message"]
    else:
        assert answer.json["size"] == 1024
    assert bounds._held == 0


def test_a_body_that_never_ends_is_cut_off(ask: Any, echo: Any) -> None:
    answer = asyncio.run(ask(Bounds(echo, SMALL), "/v1/x", [], "POST", [b"a"] * 100, pause=0.05))
    assert (answer.status, answer.headers["connection"]) == (408, "close")


def test_all_bodies_together_are_bounded(ask: Any, echo: Any) -> None:
    bounds = Bounds(echo, Limits(body=1024, body_seconds=5))

    async def run() -> list[int]:
        many = [ask(bounds, "/v1/x", [], "POST", [b"a" * 900, b""], pause=0.05) for _ in range(30)]
        return [answer.status for answer in await asyncio.gather(*many)]

    statuses = asyncio.run(run())
    assert set(statuses) == {200, 503}
    assert bounds._held == 0


async def slow(scope: Scope, _: Receive, send: Send) -> None:
    """Begins, as a stream of events or not, and never ends."""
    kind = b"text/event-stream" if scope["path"] != "/v1/plain" else b"application/json"
    if scope["path"] != "/v1/silent":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("path", "status", "end", "whole"),
    [
        ("/v1/silent", 504, b'"code": "request_timeout"}}', True),
        ("/v1/stream", 200, b'"code": "request_timeout"}}\n\n', True),
        ("/v1/messages", 200, b'"message": "the request took longer than 0.3 seconds (--request-timeout)"}}\n\n', True),
        ("/v1/plain", 200, b"data: 1\n\n", False),  # cut: a client that counts bytes sees that it is not whole
    ],
)
def test_requests_that_take_too_long(ask: Any, path: str, status: int, end: bytes, whole: bool) -> None:
    answer = asyncio.run(ask(Bounds(slow, SMALL), path, [], "POST"))
    assert (answer.status, answer.whole) == (status, whole)
    assert answer.body.endswith(end)


def test_a_body_of_brackets_is_refused(ask: Any, echo: Any) -> None:
    """Lists and objects take the longest to read: of 2 MB of them the event loop would hear nothing for a second."""
    for body, status in ((b"[" * 33, 413), (b"[{" * 16, 200)):
        answer = asyncio.run(ask(Bounds(echo, Limits(body=1024)), "/v1/x", [], "POST", [body]))
        assert answer.status == status


def test_an_app_that_fails_by_a_timeout_of_its_own_fails_so(ask: Any) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(ask(Bounds(app, SMALL)))
