"""Events on their way to the one coroutine that reads them. Used on the event loop alone."""

from __future__ import annotations

import asyncio

from llamero.interfaces.server.answer import Event


class Mailbox:
    """What is put in between two looks is taken out at once."""

    def __init__(self, patience: float | None = None) -> None:
        """patience: seconds until who waits is told that there is nothing."""
        self._patience = patience
        self._events: list[Event] = []
        self._closed = False
        self._reader: asyncio.Future[None] | None = None
        self._since = 0.0  # when the reader began to wait
        self._timer: asyncio.TimerHandle | None = None

    def put(self, event: Event) -> None:
        """One more event."""
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._wake()
        if self._timer:
            self._timer.cancel()

    async def take(self) -> list[Event] | None:
        """All events that lie here, waiting for one; none when patience ends; None when no more will come."""
        if not self._events and not self._closed:
            await self._wait()
        if self._closed and not self._events:
            return None
        events, self._events = self._events, []
        return events

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._reader, self._since = loop.create_future(), loop.time()
        if self._patience is not None and self._timer is None:
            self._timer = loop.call_later(self._patience, self._look)
        try:
            await self._reader
        finally:
            self._reader = None

    def _look(self) -> None:
        """Now and then, how long somebody has been waiting; a timer for each wait would cost as much as the rest."""
        assert self._patience is not None
        loop, self._timer = asyncio.get_running_loop(), None
        due = self._since + self._patience
        if not self._reader:
            return
        if loop.time() >= due:
            self._wake()
        else:
            self._timer = loop.call_at(due, self._look)

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
