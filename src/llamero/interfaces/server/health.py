"""`/health`: whether the server answers at all."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter

from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses


class Health(Shape):
    """It does."""

    status: Literal["ok"]


class Draining(Shape):
    """It ends, and takes no new work. working: answers that are not whole yet."""

    status: Literal["draining"]
    working: int


def health_routes() -> APIRouter:
    """The route; it needs no key."""
    router = APIRouter(tags=["operations"])

    draining: dict[int | str, Any] = {503: {"model": Draining, "description": "It ends, and takes no new work"}}

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_model=Health, responses=responses(error=ErrorBody) | draining)
    async def health() -> dict[str, str]:
        """Says that the server answers."""
        return {"status": "ok"}

    return router
