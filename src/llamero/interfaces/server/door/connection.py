"""A connection, as uvicorn and h11 keep it, on which nobody dawdles: neither who sends a head, nor who reads an answer.

h11 is chosen over faster parsers because it is strict: it refuses what request smuggling lives on, and its headers
are bounded while they arrive.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEADER_SECONDS = 15.0


class Connection(H11Protocol):
    """A connection that is cut off when no request comes, or when an answer is not taken; uvicorn waits for ever."""

    _patience: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, most: int, send_seconds: float, **options: Any) -> None:
        """most: connections; the next are closed at once. send_seconds: a reader may take nothing for so long."""
        super().__init__(*args, **options)
        self._most, self._send_seconds = most, send_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """64 KiB wait for the reader. When it has gone, whoever writes hears so."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._end_waiting()
        elif self._patience is None and (self.cycle is None or self.cycle.response_complete):
            self._begin_waiting()  # the next request on this connection has begun to arrive

    def send_400_response(self, msg: str) -> None:
        """Bytes that are no HTTP: told, unless an answer was begun or given, which nothing may follow."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        return False  # there is nothing to upgrade to, and nothing to install for it

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
