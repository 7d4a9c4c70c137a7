"""Events on their way to the one coroutine that reads them. Used on the event loop alone."""

from __future__ import annotations

import asyncio

from llamero.interfaces.server.answer import Event


class Mailbox:
    """What is put in between two looks is taken out at once."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._closed = False
        self._reader: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """One more event."""
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._wake()

    async def take(self, patience: float | None = None) -> list[Event] | None:
        """All events that lie here, waiting for one; none after `patience` seconds; None when no more will come."""
        if not self._events and not self._closed:
            await self._wait(patience)
        if self._closed and not self._events:
            return None
        events, self._events = self._events, []
        return events

    async def _wait(self, patience: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        timer = None if patience is None else loop.call_later(patience, self._wake)
        try:
            await self._reader
        finally:
            self._reader = None
            if timer:
                timer.cancel()

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
