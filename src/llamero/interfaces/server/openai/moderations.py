"""`/v1/moderations`, judged by a Llama Guard."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from llamero.engine.sampling import Sampling
from llamero.interfaces.server.answer import Ask, Begun
from llamero.interfaces.server.answering import answer
from llamero.interfaces.server.fields import Shape, Strict
from llamero.interfaces.server.guarding import Verdict, guard_categories, verdict
from llamero.interfaces.server.json_bodies import JsonAnswer, JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openai.messages import TextPart
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.owners import owner_of
from llamero.interfaces.server.responding import whole

_WORDS = 48  # tokens of a verdict: "unsafe" and all the codes
_TOP = 20  # likeliest tokens among which "unsafe" is looked for

_MEANINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # a word in the name of a Guard's category, and what OpenAI calls it; the first that fits
    ("non-violent", ("illicit",)),
    ("violence and hate", ("violence", "hate")),
    ("violent", ("violence", "illicit", "illicit/violent")),
    ("child", ("sexual", "sexual/minors")),
    ("sex", ("sexual",)),
    ("weapons", ("illicit", "illicit/violent")),
    ("substances", ("illicit",)),
    ("criminal planning", ("illicit",)),
    ("code interpreter", ("illicit",)),
    ("hate", ("hate",)),
    ("suicide", ("self-harm",)),
    ("self-harm", ("self-harm",)),
    ("defamation", ("harassment",)),
)
"""Advice, privacy, intellectual property and elections have no counterpart; they are flagged all the same."""

CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)


class ModerationRequest(Strict):
    """Texts to judge."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "How do I pick a lock?"}]})

    model: str = Field("", max_length=256, description="a Llama Guard; the first name with `guard` in it, or the first")
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64)]
        | Annotated[list[TextPart], Field(min_length=1, max_length=64)]
    ) = Field(description="a text, a list of texts, or one text in parts")

    def texts(self) -> list[str]:
        """The texts one by one."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(part, TextPart) for part in self.input):
            return ["\n".join(part.text for part in self.input if isinstance(part, TextPart))]
        return [part for part in self.input if isinstance(part, str)]


class GuardBody(Shape):
    """llamero's own: the Guard's codes with their names, and the probability that it gave to "unsafe"."""

    codes: dict[str, str]
    unsafe: float


class ModerationBody(Shape):
    """A verdict. category_scores: the probability of "unsafe" for the categories that were named, else 0."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    llama_guard: GuardBody


class Moderations(Shape):
    """The verdicts, in the order of the texts."""

    id: str
    model: str
    results: list[ModerationBody]


def moderation_routes(library: Library) -> APIRouter:
    """The route, answered by a Guard among the library's models."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @router.post("/v1/moderations", response_model=Moderations, responses=responses(404, 429, error=ErrorBody))
    async def moderations(body: ModerationRequest, request: Request) -> JsonAnswer:
        """Whether texts are unsafe, and in which way."""
        model = body.model or next((name for name in library.names() if "guard" in name.lower()), "")
        async with library.use(model) as served:
            template = await asyncio.to_thread(lambda: served.llama.chat_template)
            categories = guard_categories(template.source, served.name)
        asks = [_ask(model, text, owner_of(request)) for text in body.texts()]
        events = await whole(request, answer(library, *asks))
        name = next(event.model for event in events if isinstance(event, Begun))
        results = [moderation(verdict(events, index, categories), categories) for index in range(len(asks))]
        return JsonAnswer({"id": f"modr-{secrets.token_hex(12)}", "model": name, "results": results})

    return router


def moderation(found: Verdict, categories: Mapping[str, str]) -> dict[str, Any]:
    """A verdict in OpenAI's shape."""
    named = {meaning for code in found.codes for meaning in meanings(categories[code])}
    return {
        "flagged": found.unsafe,
        "categories": {category: category in named for category in CATEGORIES},
        "category_scores": {category: found.score if category in named else 0.0 for category in CATEGORIES},
        "category_applied_input_types": {category: ["text"] for category in CATEGORIES},
        "llama_guard": {"codes": {code: categories[code] for code in found.codes}, "unsafe": found.score},
    }


def meanings(name: str) -> tuple[str, ...]:
    """OpenAI's categories for one of a Guard's, by its name."""
    return next((ours for word, ours in _MEANINGS if word in name.lower()), ())


def _ask(model: str, text: str, owner: str) -> Ask:
    return Ask(
        model=model,
        owner=owner,
        messages=({"role": "user", "content": text},),
        sampling=Sampling(temperature=0),
        max_tokens=_WORDS,
        logprobs=_TOP,
    )
