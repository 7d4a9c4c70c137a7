"""Real servers on loopback, and the official client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import openai
import pytest
import uvicorn
from fastapi import FastAPI

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.library import Library

Serve = Callable[[FastAPI], str]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of a server that answers with this application."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"  # the door holds connections until it is opened
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts servers that end with the module."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


@pytest.fixture(scope="module")
def chain(serve: Serve, models: Path) -> str:
    """The address of a server of the tiny model that tells its tale, with a chat template."""
    return serve(make_app(Library.of(Llama(models / "chatty.gguf", threads=1), "chain")))


@pytest.fixture(scope="module")
def stories(serve: Serve) -> str:
    """The address of a server of the embedded model."""
    return serve(make_app(Library.of(Llama(threads=1), "stories")))


@pytest.fixture(scope="module")
def client(chain: str) -> Iterator[openai.OpenAI]:
    """The official client of the tale's server."""
    with openai.OpenAI(base_url=f"{chain}/v1", api_key="none", max_retries=0) as client:
        yield client
