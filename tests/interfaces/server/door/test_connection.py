"""Connections that dawdle, on real sockets: heads that never end, readers who never read, one connection too many."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from llamero.interfaces.server.door import connection

Launch = Callable[..., Any]


def connect(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def heard(door: socket.socket) -> bytes:
    """The whole of a small answer, which may come in pieces."""
    data = b""
    while not data.endswith(b"}"):
        part = door.recv(65536)
        assert part, data
        data += part
    return data


def until_closed(door: socket.socket) -> float:
    """Seconds until the other side is gone."""
    began = time.monotonic()
    try:
        while door.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


@pytest.fixture
def chain(serve_guarded: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(connection, "_HEADER_SECONDS", 0.5)
    return serve_guarded()


@pytest.mark.parametrize("words", [b"", b"GET /health HTTP/1.1\r\nHost: local"])
def test_a_head_that_never_ends_is_cut_off(chain: str, words: bytes) -> None:
    with connect(chain) as door:
        door.sendall(words)
        assert 0.2 < until_closed(door) < 10


def test_a_second_head_that_never_ends_is_cut_off(chain: str) -> None:
    with connect(chain) as door:
        door.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in heard(door)
        time.sleep(0.7)  # between requests there is time
        door.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in heard(door)
        door.sendall(b"GET /health HT")
        assert 0.2 < until_closed(door) < 10


def test_a_reader_who_never_reads_is_cut_off(launch: Launch) -> None:
    server = launch("-m", "circle.gguf", "--send-timeout", "0.5s").ready()
    body = {"model": "circle", "prompt": "a", "stream": True, "overflow": "shift", "max_tokens": 10**8}
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\n\r\n"
    with connect(server.address) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        door.sendall(head.encode() + data)
        deadline = time.monotonic() + 30
        with server.client() as client:
            while 'reason="cancelled"} 1' not in (text := client.get("/metrics").text):
                assert time.monotonic() < deadline, text
                time.sleep(0.2)
        assert 'state="writing"} 0' in text


def test_a_crowd_that_says_nothing_is_closed(launch: Launch) -> None:
    server = launch("-m", "chain.gguf", "--max-connections", "5").ready()
    doors = [connect(server.address) for _ in range(5 + 64 + 20)]
    try:
        time.sleep(0.5)
        closed = 0
        for door in doors:
            door.setblocking(False)
            with suppress(BlockingIOError):
                assert door.recv(1) == b""
                closed += 1
        assert closed == 20
    finally:
        for door in doors:
            door.close()


def test_one_connection_too_many_is_refused(launch: Launch) -> None:
    server = launch("-m", "chain.gguf", "--max-connections", "5").ready()
    doors = [connect(server.address) for _ in range(10)]
    try:
        for door in doors:
            door.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = [heard(door) for door in doors]
        with server.client() as client:
            assert client.get("/health").status_code == 200  # who watches is answered
    finally:
        for door in doors:
            door.close()
    refused = [one for one in said if b" 503 " in one]
    assert refused
    assert all(b"retry-after: 5" in one and b'"code": "busy"' in one for one in refused)
    with server.client() as client:
        deadline = time.monotonic() + 10
        while client.get("/v1/models").status_code != 200:
            assert time.monotonic() < deadline
