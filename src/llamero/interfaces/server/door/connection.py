"""A connection, as uvicorn and h11 keep it, with a limit for how long a request's headers may take to arrive.

h11 is chosen over faster parsers because it is strict: it refuses what request smuggling lives on, and its headers
are bounded while they arrive.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEADER_SECONDS = 15.0


class Connection(H11Protocol):
    """A connection on which nobody may dawdle before a request is there; uvicorn itself looks only after one."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._end_waiting()
        elif self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._begin_waiting()  # the next request on this connection has begun to arrive

    def _begin_waiting(self) -> None:
        self._patience = self.loop.call_later(_HEADER_SECONDS, self._too_slow)

    def _end_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
