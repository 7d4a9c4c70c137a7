"""Answers on their way to a client, as one JSON body or as a stream of server-sent events. Every dialect uses it.

A client that goes away closes the answer's generator, which cancels its runs before the next step. A stream begins
when the request has been accepted, so that what is wrong with it gets its HTTP status; what goes wrong later is told
in the stream. Comments (lines that begin with a colon, which clients skip) tell how the loading of a model and the
reading of a prompt get on, and that a silent stream lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llamero.interfaces.server.answer import Event, Loading, Reading
from llamero.interfaces.server.json_bodies import JsonAnswer, json_text
from llamero.interfaces.server.refusals import Refusal, refusal

T = TypeVar("T")
Batches = AsyncGenerator[list[Event]]

_MANY = 500  # events, whose JSON takes a few milliseconds

_log = logging.getLogger(__name__)


class Frames(Protocol):
    """A dialect's translation of events into frames of a stream."""

    def push(self, event: Event) -> Iterable[str]:
        """What one more event says; nothing, for most of them."""
        ...

    def end(self) -> Iterable[str]:
        """What is said last."""
        ...

    def failed(self, refusal: Refusal) -> Iterable[str]:
        """What is said, last, when something went wrong in the middle."""
        ...


class ClientGone(Exception):
    """Nobody waits for this answer any more."""


def data(body: Any, event: str | None = None) -> str:
    """One frame: JSON, with the name of its event where the dialect names them."""
    text = json_text(body)
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"


async def whole(request: Request, batches: Batches) -> list[Event]:
    """All events of an answer. Raises ClientGone when the client does not wait for it."""

    async def gather() -> list[Event]:
        async with aclosing(batches):
            return [event async for batch in batches for event in batch]

    return await while_there(request, gather())


async def bodied(events: list[Event], body: Callable[[list[Event]], Any]) -> Response:
    """One JSON body of events; in a thread where there are many."""
    if len(events) > _MANY:
        return await asyncio.to_thread(lambda: JsonAnswer(body(events)))
    return JsonAnswer(body(events))


async def streamed(request: Request, batches: Batches, frames: Frames) -> Response:
    """An answer as a stream, begun. Raises what is wrong with the request."""

    async def first() -> list[Event]:
        while not (batch := await anext(batches)):
            pass  # a silence
        return batch

    try:
        return EventStream(await while_there(request, first()), batches, frames)
    except BaseException:
        await batches.aclose()
        raise


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, unless the client goes away first: then it is cancelled, and ClientGone raised."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait([task, gone])


class EventStream(Response):
    """Server-sent events: the first batch, and those that follow."""

    media_type = "text/event-stream"

    def __init__(self, first: list[Event], rest: Batches, frames: Frames) -> None:
        self._first, self._rest, self._frames = first, rest, frames
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        telling = asyncio.create_task(self._tell(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait([telling, gone], return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            for each in (telling, gone):
                each.cancel()
            await asyncio.wait([telling, gone])

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._rest):
            try:
                await self._send(send, self._first)
                async for batch in self._rest:
                    await self._send(send, batch)
                last = "".join(self._frames.end())
            except Exception as error:
                told = refusal(error)
                if told.status >= 500:
                    _log.exception("a stream failed")
                last = "".join(self._frames.failed(told))
            await send({"type": "http.response.body", "body": last.encode(), "more_body": False})

    async def _send(self, send: Send, batch: list[Event]) -> None:
        text = "".join(piece for event in batch for piece in self._pieces(event)) if batch else ": waiting\n\n"
        if text:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    def _pieces(self, event: Event) -> Iterable[str]:
        if isinstance(event, Loading | Reading):
            what = "loading" if isinstance(event, Loading) else "reading"
            yield f": {what} {event.done}/{event.total}\n\n"
        yield from self._frames.push(event)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
