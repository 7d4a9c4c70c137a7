"""Leaving politely: no new work is taken, what is at work may end, and `/health` says so to who sends the work."""

from __future__ import annotations

from collections.abc import Callable

from llamero.interfaces.server.door.asgi import App, Receive, Scope, Send, respond, turn_away
from llamero.interfaces.server.refusals import Refusal

_WATCHED = frozenset({"/health", "/metrics"})  # answered to the end


class Drain:
    """ASGI middleware that counts the requests at work, and takes no more once `begin` was called."""

    def __init__(self, app: App, cut: Callable[[], None], retry_after: int = 5) -> None:
        """cut: ends what is at work. retry_after: seconds after which a client is asked to try again."""
        self._app, self.cut, self._later = app, cut, {"Retry-After": str(retry_after)}
        self.draining = False
        self.working = 0

    def begin(self) -> None:
        """Take no new work."""
        self.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self.draining and scope["path"] == "/health":
            return await respond(503, {"status": "draining", "working": self.working}, send, self._later)
        watched = scope["path"] in _WATCHED
        if self.draining and not watched:
            text = "the server is being stopped and takes no new work; try again shortly"
            refusal = Refusal(503, text, "server_error", "draining", headers=self._later | {"Connection": "close"})
            return await turn_away(refusal, scope, send)
        self.working += not watched
        try:
            await self._app(scope, receive, send)
        finally:
            self.working -= not watched
