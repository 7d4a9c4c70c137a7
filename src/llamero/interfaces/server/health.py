"""`/health`: whether the server answers at all."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from llamero.interfaces.server.fields import Shape


class Health(Shape):
    """It does."""

    status: Literal["ok"]


def health_routes() -> APIRouter:
    """The route; it needs no key."""
    router = APIRouter(tags=["operations"])

    @router.get("/health", response_model=Health)
    async def health() -> dict[str, str]:
        """Says that the server answers."""
        return {"status": "ok"}

    return router
