"""`/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from llamero.interfaces.server.embedding import Embedded, embed
from llamero.interfaces.server.fields import Shape, Strict
from llamero.interfaces.server.json_bodies import JsonAnswer, JsonRoute
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.completion_request import IdLists, Ids, Texts
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses
from llamero.interfaces.server.responding import while_there


class EmbeddingRequest(Strict):
    """Texts, or token ids, whose meaning is wanted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": ["The dog ran home.", "A cat sat down."]}]})

    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    input: str | Ids | Texts | IdLists = Field(description="a text or token ids, or a list of such")
    encoding_format: Literal["float", "base64"] | None = Field(None, description="base64: of float32, little-endian")
    dimensions: int | None = Field(None, ge=1, le=2**31, description="the model's own width, or nothing")
    user: str | None = Field(None, description="a hint; changes nothing")

    def texts(self) -> list[str | list[int]]:
        """The texts one by one."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(part, int) for part in self.input):
            return [[part for part in self.input if isinstance(part, int)]]
        return [part for part in self.input if not isinstance(part, int)]


class EmbeddingBody(Shape):
    """The vector of the text at `index`, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Shape):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Shape):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingBody]
    model: str
    usage: EmbeddingUsage


def embedding_routes(library: Library) -> APIRouter:
    """The route, answered by the library's models."""
    router = APIRouter(tags=["OpenAI"], route_class=JsonRoute)

    @router.post("/v1/embeddings", response_model=Embeddings, responses=responses(404, 429, error=ErrorBody))
    async def embeddings(body: EmbeddingRequest, request: Request) -> JsonAnswer:
        """The meaning of texts as vectors: the mean of the last layer's output over all tokens."""
        found = await while_there(request, embed(library, body.model, body.texts(), body.dimensions))
        return await asyncio.to_thread(_told, found, body.encoding_format == "base64")

    return router


def _told(found: Embedded, packed: bool) -> JsonAnswer:
    vectors: list[Any] = (
        [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in found.vectors]
        if packed
        else found.vectors.tolist()
    )
    return JsonAnswer(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
            "model": found.model,
            "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
        }
    )
