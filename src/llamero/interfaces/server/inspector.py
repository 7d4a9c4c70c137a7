"""`/v1/inspect`: what a model would read for a chat request, and why. Nothing is written, nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request

from llamero.errors import ContextOverflow
from llamero.interfaces.prompts import Prompt
from llamero.interfaces.server.answer import Ask
from llamero.interfaces.server.calling import shown
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.json_bodies import JsonAnswer, JsonRoute
from llamero.interfaces.server.library import Library, Served
from llamero.interfaces.server.openai.chat_request import ChatRequest
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.planning import prompt_of, request_of
from llamero.tokenizer.origins import Origin, Span, origins
from llamero.tokenizer.places import places
from llamero.tokenizer.shield import Segment

_CONTEXTS = 4  # that are shown; each token takes a hundred bytes


class SpanBody(Shape):
    """Characters (Unicode code points) `start` to before `end`: who wrote them.

    message: the place in `messages` of the one that they come from. unknown: the template wrote something else of what
    it was given, and what is whose could not be told.
    """

    start: int
    end: int
    origin: Origin
    message: int | None


class TokenBody(Shape):
    """A token, and the characters that it is of, or is part of.

    special: a control token. cached: the cache holds it now, so that it would not be read. dropped: the overflow
    policy leaves it out.
    """

    id: int
    text: str
    start: int
    end: int
    special: bool
    cached: bool
    dropped: bool


class Inspection(Shape):
    """The prompt of a chat.

    text, spans (in order, without gaps), tokens: after whole messages were left out (`dropped_messages`, places in
    `messages`), before the overflow policy drops tokens. prompt_tokens: that would be read or found in the cache.
    dropped_tokens: of the whole conversation. error: why the request would be refused.
    """

    object: Literal["prompt.inspection"]
    model: str
    template: str
    context: int
    prompt_tokens: int
    cached_tokens: int
    dropped_tokens: int
    dropped_messages: list[int]
    error: str | None
    text: str
    spans: list[SpanBody]
    tokens: list[TokenBody]


def inspector_routes(library: Library) -> APIRouter:
    """The route, answered by the library's models."""
    router = APIRouter(tags=["tokens"], route_class=JsonRoute)

    @router.post("/v1/inspect", response_model=Inspection, responses=responses(404, 429, error=ErrorBody))
    async def inspect(body: ChatRequest, request: Request) -> JsonAnswer:
        """What a chat request's prompt is made of: text, ids, where each span came from, what is cached or dropped."""
        ask = body.ask(owner_of(request))
        async with library.use(ask.model) as served:
            prompt = await prompt_of(served, ask)
            most = _CONTEXTS * served.llama.context
            if len(prompt.ids) > most:
                text = f"the conversation has {len(prompt.ids)} tokens; at most {most} are shown, {_CONTEXTS} contexts"
                raise ContextOverflow(text, tokens=len(prompt.ids), context=served.llama.context)
            return JsonAnswer(await asyncio.to_thread(_inspection, served, ask, prompt))

    return router


def _inspection(served: Served, ask: Ask, prompt: Prompt) -> dict[str, Any]:
    llama = served.llama
    kept, cached, error = _fate(served, ask, prompt)
    pieces, spans = _made_of(served, ask, prompt)
    stay, found = set(kept), set(kept[:cached])
    return {
        "object": "prompt.inspection",
        "model": served.name,
        "template": llama.chat_template.name,
        "context": llama.context,
        "prompt_tokens": len(kept),
        "cached_tokens": cached,
        "dropped_tokens": prompt.dropped + len(prompt.ids) - len(kept),
        "dropped_messages": list(prompt.without),
        "error": error,
        "text": "".join(segment.text for segment, _ in pieces),
        "spans": [
            {"start": span.start, "end": span.end, "origin": span.origin, "message": span.message} for span in spans
        ],
        "tokens": [
            token | {"cached": place in found, "dropped": place not in stay}
            for place, token in enumerate(_tokens(served, pieces))
        ],
    }


def _fate(served: Served, ask: Ask, prompt: Prompt) -> tuple[Sequence[int], int, str | None]:
    """The places of the tokens that would be read, how many of them are in the cache, and why not if not."""
    try:
        run = served.llama.engine.plan(request_of(served, ask, prompt))
    except ContextOverflow as error:
        return range(len(prompt.ids)), 0, str(error)
    dropped = range(prompt.keep, prompt.keep + run.dropped_tokens)
    return [place for place in range(len(prompt.ids)) if place not in dropped], served.worker.scheduler.found(run), None


def _made_of(served: Served, ask: Ask, prompt: Prompt) -> tuple[list[tuple[Segment, list[int]]], list[Span]]:
    """The segments with their ids, and the origins of their characters, by the places of all messages."""
    template, tokenizer = served.llama.chat_template, served.llama.tokenizer
    places_kept = [place for place in range(len(ask.messages or ())) if place not in prompt.without]
    messages = [(ask.messages or ())[place] for place in places_kept]
    given: dict[str, Any] = {"tools": shown(ask.tools), **ask.template_variables}
    pieces = template.pieces(tokenizer, messages, **given)
    text, spans = origins(template, tokenizer.special_tokens, messages, **given)
    before = sum(len(segment.text) for segment, _ in pieces) - len(text)  # a BOS was put before it, or taken away
    moved = [
        Span(
            max(0, span.start + before),
            span.end + before,
            span.origin,
            None if span.message is None else places_kept[span.message],
        )
        for span in spans
        if span.end + before > 0
    ]
    return pieces, [*([Span(0, before, "template")] if before > 0 else []), *moved]


def _tokens(served: Served, pieces: Sequence[tuple[Segment, list[int]]]) -> Iterator[dict[str, Any]]:
    spell = served.llama.tokenizer.piece
    at = 0
    for segment, ids in pieces:
        spellings = [spell(token) for token in ids]
        where = places(segment.text, spellings) if segment.literal else [(0, len(segment.text))] * len(ids)
        for token, spelling, (start, end) in zip(ids, spellings, where, strict=True):
            text = spelling.decode("utf-8", "replace")
            place = {"start": at + start, "end": at + end}
            yield {"id": token, "text": text, **place, "special": not segment.literal}
        at += len(segment.text)
