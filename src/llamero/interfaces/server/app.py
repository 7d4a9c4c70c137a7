"""The server's application: routes, and what a client is told when something is wrong."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

import llamero
from llamero.errors import ContextOverflow, LlameroError
from llamero.interfaces.server.anthropic.errors import messages_error
from llamero.interfaces.server.anthropic.messages import message_routes
from llamero.interfaces.server.anthropic.messages_stream import MessageEvent
from llamero.interfaces.server.counts.route import Collect, metrics_routes
from llamero.interfaces.server.health import health_routes
from llamero.interfaces.server.inspector import inspector_routes
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.mistakes import mistake
from llamero.interfaces.server.openai.chat import chat_routes
from llamero.interfaces.server.openai.chat_stream import ChatChunk
from llamero.interfaces.server.openai.completion_reply import Completion
from llamero.interfaces.server.openai.completions import completion_routes
from llamero.interfaces.server.openai.embeddings import embedding_routes
from llamero.interfaces.server.openai.errors import error_body
from llamero.interfaces.server.openai.models import model_routes
from llamero.interfaces.server.openai.moderations import moderation_routes
from llamero.interfaces.server.openai.responses import response_routes
from llamero.interfaces.server.openai.responses_shape import ResponseEvent
from llamero.interfaces.server.openapi import describe
from llamero.interfaces.server.page import page_routes
from llamero.interfaces.server.refusals import Refusal, refusal
from llamero.interfaces.server.responding import ClientGone
from llamero.interfaces.server.settings import Settings
from llamero.interfaces.server.tokens import token_routes

_log = logging.getLogger(__name__)
_DESCRIPTION = """\
Llamas behind OpenAI's API. What is not supported is refused by name, with status 400; an unknown field with the \
nearest valid one. Streams are server-sent events; lines that begin with a colon tell how loading and reading get on.
"""
_LONG = {"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/moderations": "input", "/v1/responses": "input"}
_GONE = 499  # nginx's number for a client that did not wait; nobody receives it


def make_app(library: Library, settings: Settings | None = None, families: Collect | None = None) -> FastAPI:
    """The application that answers with the library's models. It closes the library when it ends.

    families: what `/metrics` tells; there is no such route without.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await library.close()

    app = FastAPI(
        title="llamero",
        version=llamero.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # `describe` tells it
        docs_url=None,  # FastAPI's pages of documentation fetch scripts from elsewhere
        redoc_url=None,
    )
    routers = [
        chat_routes(library, settings),
        response_routes(library, settings),
        message_routes(library, settings),
        completion_routes(library, settings),
        embedding_routes(library),
        model_routes(library),
        moderation_routes(library),
        token_routes(library),
        inspector_routes(library),
        health_routes(),
        *([metrics_routes(families)] if families else []),
    ]
    for router in (*routers, page_routes()):
        app.include_router(router)
    describe(app, streams=(ChatChunk, Completion, ResponseEvent, MessageEvent))
    _tell_errors(
        app, settings, [route.path for router in routers for route in router.routes if isinstance(route, Route)]
    )
    return app


def _tell_errors(app: FastAPI, settings: Settings, paths: Sequence[str]) -> None:
    """paths: of all routes, to name the nearest to one that is not there."""

    def tell(request: Request, error: Exception) -> Response:
        told = refusal(error, settings.retry_after)
        if isinstance(error, ContextOverflow):
            told.param = _LONG.get(request.url.path, "messages")
        if told.status >= 500:
            _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        shape = messages_error if request.url.path.startswith("/v1/messages") else error_body
        return JSONResponse(shape(told), told.status, told.headers)

    async def refused(request: Request, error: Exception) -> Response:
        return tell(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if isinstance(error.body, bytes):  # only what is called JSON is read as JSON
            kind = request.headers.get("content-type", "not given")
            words = f"the body's Content-Type is {kind}; send JSON, and say so: 'Content-Type: application/json'"
            return tell(request, Refusal(400, words, code="invalid_json"))
        return tell(request, mistake(error.errors(), error.body))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        words = f"{error.detail}: {request.method} {request.url.path}"
        if error.status_code == 404:
            close = get_close_matches(request.url.path, paths, n=1)
            words += f"; did you mean {close[0]}?" if close else "; /openapi.json lists every route"
        return tell(request, Refusal(error.status_code, words, code=code, headers=dict(error.headers or {})))

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=_GONE)

    for kind in (LlameroError, Refusal, Exception):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGone, gone)
