"""`/v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from llamero.interfaces.server.answering import answer
from llamero.interfaces.server.anthropic.errors import MessagesErrorBody
from llamero.interfaces.server.anthropic.messages_reply import MessageBody, message
from llamero.interfaces.server.anthropic.messages_request import CountRequest, MessagesRequest
from llamero.interfaces.server.anthropic.messages_stream import MessageEvent, MessageFrames
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.json_bodies import JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.planning import prompt_of
from llamero.interfaces.server.responding import bodied, streamed, whole
from llamero.interfaces.server.settings import Settings

_STREAM = """event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: message_stop
data: {"type":"message_stop"}

"""


class TokenCount(Shape):
    """How many tokens a conversation has, as the model would read it."""

    input_tokens: int


def message_routes(library: Library, settings: Settings) -> APIRouter:
    """The routes, answered by the library's models."""
    router = APIRouter(tags=["Anthropic"], route_class=JsonRoute)

    @router.post(
        "/v1/messages",
        response_model=MessageBody,
        responses=responses(404, 429, error=MessagesErrorBody, stream=MessageEvent, example=_STREAM),
    )
    async def messages(body: MessagesRequest, request: Request) -> Response:
        """The next message of a conversation, as one body or as a stream of named events."""
        batches = answer(library, body.ask(owner_of(request)), patience=settings.keep_alive)
        if body.stream:
            return await streamed(request, batches, MessageFrames())
        return await bodied(await whole(request, batches), message)

    @router.post(
        "/v1/messages/count_tokens",
        response_model=TokenCount,
        responses=responses(404, 429, error=MessagesErrorBody),
    )
    async def count_tokens(body: CountRequest, request: Request) -> dict[str, int]:
        """How many tokens the model would read."""
        ask = body.ask(owner_of(request))
        async with library.use(ask.model) as served:
            return {"input_tokens": len((await prompt_of(served, ask)).ids)}

    return router
