"""The OpenAPI document: what every route takes and gives, errors and streams included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_VERSION = "3.2.0"  # the first that describes streams of events
_REFS = "#/components/schemas/{model}"
_AGAIN = {"Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}}
_ERRORS: dict[int, tuple[str, dict[str, Any]]] = {
    400: ("The request is wrong, or asks for what is not supported; the field is named", {}),
    401: ("The server has keys, and none of them was given", {}),
    403: ("The key may not do this, or the request came from another site", {}),
    404: ("There is no such model", {}),
    408: ("The request was not whole in time", {}),
    413: ("The body is too large", {}),
    414: ("The address is too long", {}),
    421: ("The server is not called by the name in Host", {}),
    429: ("Too many requests wait already", _AGAIN),
    431: ("The headers are too large", {}),
    500: ("Something went wrong in the server", {}),
    503: ("The server or the model cannot answer now", _AGAIN),
    504: ("The answer was not whole in time", {}),
}
_OF_SOME = {404, 429}  # the other errors may come from every route
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def responses(
    *statuses: int, error: type[BaseModel], stream: type[BaseModel] | None = None, example: str = ""
) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides its body.

    statuses: of errors that not every route has. error: the shape of all errors. stream: what each `data:` of a stream
    holds; it must be among those given to `describe`. example: of a stream.
    """
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted((_ERRORS.keys() - _OF_SOME) | set(statuses)):
        words, headers = _ERRORS[status]
        told[status] = {"model": error, "description": words} | ({"headers": headers} if headers else {})
    if stream:
        told[200] = {"content": {"text/event-stream": {"itemSchema": _event(stream, error), "example": example}}}
    return told


def _event(*shapes: type[BaseModel]) -> dict[str, Any]:
    """The schema of an event whose data is JSON of one of the shapes, or the word that ends a stream."""
    content = {"anyOf": [{"$ref": _REFS.format(model=shape.__name__)} for shape in shapes]}
    words = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    data = {"anyOf": [{"const": "[DONE]"}, words]}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": data}, "required": ["data"]}


def describe(app: FastAPI, streams: Iterable[type[BaseModel]]) -> None:
    """Make the application tell its document at /openapi.json. streams: the shapes of all streams' data."""
    shapes = [(shape, "serialization") for shape in streams]

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, shapes)
        return app.openapi_schema

    async def tell() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(document))  # the first time it takes a while

    app.openapi = document  # type: ignore[method-assign]
    app.add_api_route("/openapi.json", tell, include_in_schema=False)


def _document(app: FastAPI, shapes: list[Any]) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=_VERSION,
        description=app.description,
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    _, extra = models_json_schema(shapes, ref_template=_REFS)
    for name, schema in extra.get("$defs", {}).items():
        schemas.setdefault(name, schema)
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which ours replace
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = _KEYS
    made["security"] = [{}, *({name: []} for name in _KEYS)]  # keys are asked for where the operator made some
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return made
