"""`/metrics`: what a Prometheus server reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from llamero.interfaces.server.counts.exposition import CONTENT_TYPE, Family, render
from llamero.interfaces.server.openai.errors import ErrorBody
from llamero.interfaces.server.openapi import responses

Collect: TypeAlias = Callable[[], Awaitable[list[Family]]]


def metrics_routes(families: Collect) -> APIRouter:
    """The route. families: all that is counted now."""
    router = APIRouter(tags=["operations"])

    @router.get("/metrics", response_class=PlainTextResponse, summary="Metrics", responses=responses(error=ErrorBody))
    async def metrics() -> PlainTextResponse:
        """Counts, times and gauges, in Prometheus' text format."""
        return PlainTextResponse(render(await families()), media_type=CONTENT_TYPE)

    return router
