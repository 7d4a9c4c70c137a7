"""How much and how long: a limit for the body, and for the time of a request.

A body is taken in whole before any route sees it, so that its limit holds with and without a length, and so that an
upload that never ends occupies a connection but no model. What all bodies hold at once is bounded too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from llamero.engine.sampling import check_number
from llamero.interfaces.server.door.asgi import App, Message, Receive, Scope, Send, header, last_event, turn_away
from llamero.interfaces.server.refusals import Refusal

_TOGETHER = 16  # bodies of the largest size that may be held at once
_SPARSE = 32  # bytes of the largest body for each bracket: lists and objects take the longest to read and to check
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """body: bytes. body_seconds: to send it. seconds: for a whole request. Raises SettingError."""

    body: int = 2 << 20
    body_seconds: float = 60.0
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        check_number("--max-body", self.body, int, 1024, 2**40)
        check_number("--body-timeout", self.body_seconds, float, 0.01, 10**6)
        check_number("--request-timeout", self.seconds, float, 0.01, 10**6)


class Bounds:
    """ASGI middleware that holds requests to the limits."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._held = 0  # bytes of all bodies
        self._working: set[_Sending] = set()
        self._stopped: Refusal | None = None

    def cut(self) -> None:
        """End all requests now; those who listen are told that the server is being stopped."""
        self._stopped = Refusal(503, "the server was stopped before the answer was whole", "server_error", "draining")
        for sending in self._working:
            sending.expire()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = bytearray()
        try:
            refusal = await self._take(scope, receive, body)
            if refusal is not None:
                return await turn_away(refusal, scope, send)
            return await self._answer(scope, _again(bytes(body), receive), send)
        except _Gone:
            return None
        finally:
            self._held -= len(body)

    async def _take(self, scope: Scope, receive: Receive, body: bytearray) -> Refusal | None:
        """Read the whole body into `body`; or why not."""
        declared = header(scope, b"content-length") or b"0"
        length = int(declared) if declared.isdigit() and len(declared) < 19 else self._limits.body + 1
        if length > self._limits.body:
            # A little too much is read and thrown away, so that the client comes to hear why; a lot is cut off.
            return self._too_large({} if length <= 8 * self._limits.body else _CLOSE)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    body += part
                    self._held += len(part)
                    if len(body) > self._limits.body:
                        return self._too_large(_CLOSE)
                    if self._held > _TOGETHER * self._limits.body:
                        return _too_many()
                    if not message.get("more_body", False):
                        return self._too_many_parts(body)
        except TimeoutError:
            text = f"the request did not arrive within {self._limits.body_seconds:g} seconds"
            return Refusal(408, text, code="request_timeout", headers=_CLOSE)

    def _too_large(self, headers: dict[str, str]) -> Refusal:
        text = f"the request is larger than this server takes, {self._limits.body} bytes (--max-body)"
        return Refusal(413, text, code="request_too_large", headers=headers)

    def _too_many_parts(self, body: bytearray) -> Refusal | None:
        most = self._limits.body // _SPARSE
        if body.count(b"[") + body.count(b"{") <= most:
            return None
        text = f"the request has more than {most} lists and objects, the most that this server takes (--max-body / 32)"
        return Refusal(413, text, code="request_too_large")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = _Sending(send)
        self._working.add(sending)
        try:
            async with asyncio.timeout(self._limits.seconds) as sending.clock:
                await self._app(scope, receive, sending)
        except TimeoutError:
            if not (sending.clock and sending.clock.expired()):
                raise
            await self._out_of_time(scope, sending)
        finally:
            self._working.discard(sending)

    async def _out_of_time(self, scope: Scope, sending: _Sending) -> None:
        """Say that time is up, where it can still be said; otherwise the connection is cut, which says so too."""
        text = f"the request took longer than {self._limits.seconds:g} seconds (--request-timeout)"
        refusal = self._stopped or Refusal(504, text, "server_error", "request_timeout")
        if not sending.started:
            await turn_away(refusal, scope, sending)
        elif sending.events and not sending.ended:
            last = last_event(refusal, scope["path"])
            await sending({"type": "http.response.body", "body": last, "more_body": False})


def _too_many() -> Refusal:
    text = "too many large requests at once; try again shortly"
    return Refusal(503, text, "server_error", "too_many_uploads", headers=_CLOSE | {"Retry-After": "2"})


class _Gone(Exception):
    """The client left before its request was whole."""


class _Sending:
    """A `send` that knows how far the answer has come."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.clock: asyncio.Timeout | None = None  # of the request; it ends the request wherever it is at work
        self.started = self.events = self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.events = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        elif not message.get("more_body", False):
            self.ended = True
        await self._send(message)

    def expire(self) -> None:
        """Time is up."""
        if self.clock and not self.clock.expired():
            self.clock.reschedule(asyncio.get_running_loop().time())


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece, then what the connection says (that the client has left)."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
