"""When no new work is taken: while the server is being stopped, and while too many are connected. `/health` answers."""

from __future__ import annotations

from collections.abc import Callable

from llamero.interfaces.server.door.asgi import App, Receive, Scope, Send, respond, turn_away
from llamero.interfaces.server.refusals import Refusal

_WATCHED = frozenset({"/health", "/metrics"})  # answered to the end


class Drain:
    """ASGI middleware that counts the requests at work, and takes no more once `begin` was called."""

    def __init__(self, app: App, cut: Callable[[], None], most: int = 512, retry_after: int = 5) -> None:
        """cut: ends what is at work. most: connections. retry_after: seconds until a client is to try again."""
        self._app, self.cut, self._most, self._later = app, cut, most, {"Retry-After": str(retry_after)}
        self.draining = False
        self.working = 0
        self.connected: Callable[[], int] = lambda: self.working  # how many are; the server knows better

    def begin(self) -> None:
        """Take no new work."""
        self.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self.draining and scope["path"] == "/health":
            return await respond(503, {"status": "draining", "working": self.working}, send, self._later)
        watched = scope["path"] in _WATCHED
        if not watched and (refusal := self._refusal()):
            return await turn_away(refusal, scope, send)
        self.working += not watched
        try:
            await self._app(scope, receive, send)
        finally:
            self.working -= not watched

    def _refusal(self) -> Refusal | None:
        """Why no new work is taken."""
        if self.draining:
            text, code = "the server is being stopped and takes no new work; try again shortly", "draining"
        elif self.connected() > self._most:
            text, code = f"more than {self._most} connections are open, the most that may; try again shortly", "busy"
        else:
            return None
        return Refusal(503, text, "server_error", code, headers=self._later | {"Connection": "close"})
