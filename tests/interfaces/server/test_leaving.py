"""A client that goes away ends its run before the next step, streaming or not; nobody else notices."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from llamero import Llama
from llamero.engine.schedule import Limits, Standing
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.settings import Settings

ENDLESS = {"prompt": "b", "temperature": 0, "max_tokens": 10**9, "overflow": "shift"}


class Place(NamedTuple):
    """A server of the model that never ends, and its library."""

    url: str
    library: Library

    def standing(self) -> Standing:
        return self.library.standings()["circle"]

    def working(self) -> int:
        """How many runs read or write; one whose context is full reads again what is left of it."""
        standing = self.standing()
        return standing.writing + standing.reading

    def wait(self, working: int, seconds: float = 5.0) -> None:
        """Until so many runs read or write."""
        limit = time.monotonic() + seconds
        while self.working() != working:
            assert time.monotonic() < limit, self.standing()
            time.sleep(0.005)


@pytest.fixture(scope="module")
def place(serve: Callable[..., str], models: Path) -> Place:
    library = Library.of(Llama(models / "circle.gguf", threads=1), "circle")
    return Place(serve(make_app(library, Settings(keep_alive=0.05))), library)


def send(url: str, body: dict[str, Any]) -> socket.socket:
    """A request on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def test_leaving_a_stream(place: Place) -> None:
    with httpx.stream("POST", f"{place.url}/v1/completions", json=ENDLESS | {"stream": True}) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["text"]
        assert place.working() == 1
    place.wait(0)


def test_not_waiting_for_a_whole_answer(place: Place) -> None:
    with closing(send(place.url, ENDLESS)):
        place.wait(1)
    place.wait(0)


def test_others_do_not_notice(place: Place) -> None:
    asked = {"prompt": "b", "temperature": 0, "max_tokens": 100}
    alone = httpx.post(f"{place.url}/v1/completions", json=asked, timeout=60).json()["choices"][0]["text"]
    for stream in (True, False, True):
        send(place.url, ENDLESS | {"stream": stream}).close()
        beside = httpx.post(f"{place.url}/v1/completions", json=asked, timeout=60).json()["choices"][0]["text"]
        assert beside == alone
    place.wait(0)


def test_leaving_while_waiting_for_a_turn(serve: Callable[..., str], models: Path) -> None:
    library = Library.of(Llama(models / "circle.gguf", threads=1), "circle", Limits(working=1, waiting=1))
    place = Place(serve(make_app(library, Settings(keep_alive=0.05, retry_after=7))), library)
    with closing(send(place.url, ENDLESS)):
        place.wait(1)
        with httpx.stream("POST", f"{place.url}/v1/completions", json=ENDLESS | {"stream": True}) as answer:
            lines = answer.iter_lines()  # kept: httpx closes a stream whose iterator is dropped
            assert next(lines) == ": waiting"
            assert place.standing().waiting == 1
            full = httpx.post(f"{place.url}/v1/completions", json=ENDLESS)
            assert full.status_code == 429
            assert full.headers["Retry-After"] == "7"
            assert full.json()["error"]["code"] == "rate_limit_exceeded"
        limit = time.monotonic() + 5
        while place.standing().waiting:
            assert time.monotonic() < limit
            time.sleep(0.005)
        assert place.working() == 1
    place.wait(0)
