"""JSON as it comes in and goes out, by pydantic's reader and writer: several times as fast as Python's own.

Both keep the interpreter for themselves while they work, and everybody else waits. What comes in is read strictly: no
NaN, no half of a surrogate pair, no more than 200 levels.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json, to_json


class JsonRoute(APIRoute):
    """A route whose body is read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await answer(_Request(request.scope, request.receive))

        return handle


class JsonAnswer(Response):
    """An answer that is written so."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


def json_text(body: Any) -> str:
    """The body as text, in one line."""
    return to_json(body).decode()


class _Request(Request):
    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, of which FastAPI makes a mistake of the client's."""
        body = await self.body()
        collecting = gc.isenabled()
        gc.disable()  # Python 3.11 looks through all lists again and again while their number grows: 0.3 s for 2 MB
        try:
            return from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
        finally:
            if collecting:
                gc.enable()
