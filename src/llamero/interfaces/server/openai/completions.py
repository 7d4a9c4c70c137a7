"""`/v1/completions`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from llamero.interfaces.server.answering import answer
from llamero.interfaces.server.json_bodies import JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.completion_reply import Completion, CompletionFrames, completion
from llamero.interfaces.server.openai.completion_request import CompletionRequest
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.responding import bodied, streamed, whole
from llamero.interfaces.server.settings import Settings

_STREAM = """\
data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"stories","system_fingerprint":"fp_1",\
"choices":[{"index":0,"text":" upon","logprobs":null,"finish_reason":null}]}

data: [DONE]

"""


def completion_routes(library: Library, settings: Settings) -> APIRouter:
    """The route, answered by the library's models."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @router.post(
        "/v1/completions",
        response_model=Completion,
        responses=responses(404, 429, error=ErrorBody, stream=Completion, example=_STREAM),
    )
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continues texts, as one body or as a stream of chunks."""
        batches = answer(library, *body.asks(owner_of(request)), patience=settings.keep_alive)
        if body.stream:
            return await streamed(request, batches, CompletionFrames(usage=body.usage_told))
        return await bodied(await whole(request, batches), partial(completion, logprobs=body.logprobs is not None))

    return router
