"""`/v1/models`: what may be asked for."""

from __future__ import annotations

import time
from typing import Any, Literal

from fastapi import APIRouter

from llamero.errors import ModelNotFound, nearest
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses


class ModelBody(Shape):
    """A model's name. created: when this server began to offer it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Shape):
    """All of them."""

    object: Literal["list"]
    data: list[ModelBody]


def model_routes(library: Library) -> APIRouter:
    """The routes, answered from the library's names."""
    router = APIRouter(tags=["OpenAI"])
    since = int(time.time())

    def told(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": since, "owned_by": "llamero"}

    @router.get("/v1/models", response_model=ModelList, responses=responses(error=ErrorBody))
    async def list_models() -> dict[str, Any]:
        """The models."""
        return {"object": "list", "data": [told(name) for name in library.names()]}

    @router.get("/v1/models/{name:path}", response_model=ModelBody, responses=responses(404, error=ErrorBody))
    async def retrieve_model(name: str) -> dict[str, Any]:
        """One model."""
        if name not in library.names():
            raise ModelNotFound(f"there is no model {name!r} here: {nearest(name, library.names())}")
        return told(name)

    return router
