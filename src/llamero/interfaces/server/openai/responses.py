"""`/v1/responses`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from fastapi import APIRouter, Request, Response

from llamero.interfaces.server.answer import Event
from llamero.interfaces.server.answering import answer
from llamero.interfaces.server.json_bodies import JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openai.responses_reply import Change, Draft, response
from llamero.interfaces.server.openai.responses_request import ResponsesRequest
from llamero.interfaces.server.openai.responses_shape import ResponseBody, ResponseEvent
from llamero.interfaces.server.openapi import responses as documented
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.refusals import Refusal
from llamero.interfaces.server.responding import bodied, data, streamed, whole
from llamero.interfaces.server.settings import Settings

_STREAM = """event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,\
"delta":"Hello","logprobs":[]}

"""


class ResponseFrames:
    """The changes of a response as numbered events of a stream."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._number = -1

    def push(self, event: Event) -> Iterable[str]:
        """The frames that an event makes."""
        return self._told(self._draft.push(event))

    def end(self) -> Iterable[str]:
        """The last event has told all."""
        return ()

    def failed(self, refusal: Refusal) -> Iterable[str]:
        """An error in the middle."""
        return self._told(self._draft.fail(refusal))

    def _told(self, changes: Iterable[Change]) -> Iterator[str]:
        for kind, fields in changes:
            self._number += 1
            yield data({"type": kind, "sequence_number": self._number} | fields, kind)


def response_routes(library: Library, settings: Settings) -> APIRouter:
    """The route, answered by the library's models."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @router.post(
        "/v1/responses",
        response_model=ResponseBody,
        responses=documented(404, 429, error=ErrorBody, stream=ResponseEvent, example=_STREAM),
    )
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        """The model's response to its input, as one body or as a stream of named events."""
        batches = answer(library, body.ask(owner_of(request)), patience=settings.keep_alive)
        if body.stream:
            return await streamed(request, batches, ResponseFrames(Draft(body)))
        return await bodied(await whole(request, batches), partial(response, body))

    return router
