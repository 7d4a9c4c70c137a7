"""`/v1/chat/completions`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from llamero.interfaces.server.answering import answer
from llamero.interfaces.server.json_bodies import JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.chat_reply import ChatCompletion, chat_completion
from llamero.interfaces.server.openai.chat_request import ChatRequest
from llamero.interfaces.server.openai.chat_stream import ChatChunk, ChatFrames
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.responding import bodied, streamed, whole
from llamero.interfaces.server.settings import Settings

_STREAM = """\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"stories",\
"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},\
"logprobs":null,"finish_reason":null}]}

: reading 512/2048

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"stories",\
"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":"Once"},"logprobs":null,"finish_reason":null}]}

data: [DONE]

"""


def chat_routes(library: Library, settings: Settings) -> APIRouter:
    """The route, answered by the library's models."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=responses(404, 429, error=ErrorBody, stream=ChatChunk, example=_STREAM),
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """The next message of a conversation, as one body or as a stream of chunks."""
        ask = body.ask(owner_of(request))
        batches = answer(library, ask, patience=settings.keep_alive)
        if body.stream:
            return await streamed(request, batches, ChatFrames(answers=ask.n, usage=body.usage_told))
        return await bodied(await whole(request, batches), partial(chat_completion, logprobs=bool(body.logprobs)))

    return router
