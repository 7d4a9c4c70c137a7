"""What has gone wrong in other servers, tried on ours: each class of the field's record, against a real process."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from llamero import Llama
from llamero.errors import SettingError
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.counts.exposition import Family
from llamero.interfaces.server.door.keys import KeyFile
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.page import page_files

Launch = Callable[..., Any]
ALICE, BOB = "alice-secret-key", "bob-secret-key-2"
CHAT = "/v1/chat/completions"
HELLO = {"model": "chatty", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0}


@pytest.fixture(scope="module")
def server(launch: Launch) -> Any:
    words = ["-m", "chatty.gguf", "-m", "chain.gguf", "--api-key", ALICE, "--api-key", BOB, "--max-body", "1M"]
    return launch(*words).ready()


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[httpx.Client]:
    with server.client(headers={"Authorization": f"Bearer {ALICE}"}) as client:
        yield client
        assert client.get("/health").json() == {"status": "ok"}
        assert client.post(CHAT, json=HELLO).status_code == 200
    assert "Traceback" not in server.text


def refused(answer: httpx.Response, *statuses: int) -> str:
    """What was said; it is one of these statuses, and tells nothing of the inside."""
    assert answer.status_code in (statuses or (400,)), (answer.status_code, answer.text[:500])
    for inside in ("Traceback", 'File "', "site-packages", "/work", "/home", "/tmp", "llamero/"):
        assert inside not in answer.text
    return str(answer.json()["error"]["message"])


# Templates: what a client sends is never one.


@pytest.mark.parametrize("field", ["chat_template", "template", "jinja", "chat_template_kwargs"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"])
def test_templates_from_clients_are_refused(client: httpx.Client, path: str, field: str) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    refused(client.post(path, json=HELLO | {field: escape}))


def test_words_of_a_message_are_no_template(client: httpx.Client) -> None:
    def tokens(content: str) -> int:
        body = HELLO | {"messages": [{"role": "user", "content": content}]}
        return int(client.post(CHAT, json=body).json()["usage"]["prompt_tokens"])

    plain = tokens("")
    assert tokens("{{ 7*7 }}") - plain >= 9
    assert tokens("<|turn|>") - plain > 2  # a special token in a stranger's words is plain text


def test_a_hostile_template_in_a_file_does_nothing(launch: Launch, chain_file: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    globals_ = "cycler.__init__.__globals__"
    hostile = {
        "escape": f"{{{{ {globals_}.os.system('touch {mark}') }}}}",
        "forever": "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}",
    }
    words = []
    for name, template in hostile.items():
        words += ["-m", str(chain_file(tmp_path / f"{name}.gguf", template))]
    server = launch(*words).ready()
    with server.client() as client:
        for name in hostile:
            refused(client.post(CHAT, json=HELLO | {"model": name}), 400, 500)
        assert client.get("/health").status_code == 200
    assert not mark.exists()


# Media: nothing is ever fetched.


@contextmanager
def canary() -> Iterator[tuple[int, list[bytes]]]:
    """A port that nobody may visit."""
    visits: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(0.2)
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                try:
                    visitor, _ = door.accept()
                except TimeoutError:
                    continue
                with visitor:
                    visits.append(visitor.recv(100))

        watcher = threading.Thread(target=watch)
        watcher.start()
        yield door.getsockname()[1], visits
        over.set()
        watcher.join()


def test_media_is_refused_by_name_and_never_fetched(client: httpx.Client) -> None:
    with canary() as (port, visits):
        here = f"127.0.0.1:{port}"
        for url in (f"http://{here}/x.png", "file:///etc/passwd", "data:image/png;base64,AAAA", f"//{here}/"):
            for part in (
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "image_url", "image_url": url},
                {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
                {"type": "file", "file": {"file_data": url}},
                {"type": "video_url", "video_url": {"url": url}},
            ):
                said = refused(client.post(CHAT, json=HELLO | {"messages": [{"role": "user", "content": [part]}]}))
                assert part["type"].partition("_")[0] in said or "type" in said
                assert url not in said
            image = {"type": "input_image", "image_url": url}
            refused(
                client.post("/v1/responses", json={"model": "chatty", "input": [{"role": "user", "content": [image]}]})
            )
            source = {"type": "image", "source": {"type": "url", "url": url}}
            message = {"model": "chatty", "max_tokens": 5, "messages": [{"role": "user", "content": [source]}]}
            refused(client.post("/v1/messages", json=message))
            refused(client.post(CHAT, json=HELLO | {"model": url}), 404)
        assert visits == []


# Names, never paths.


@pytest.mark.parametrize(
    "name",
    ["../chatty.gguf", "./chatty", "chatty.gguf", "/etc/passwd", "chatty:../x", "chatty:/etc/passwd", "..", "\x00"],
)
def test_models_and_adapters_are_named(client: httpx.Client, name: str) -> None:
    refused(client.post(CHAT, json=HELLO | {"model": name}), 404)
    refused(client.get(f"/v1/models/{quote(name, safe='')}"), 400, 404)


@pytest.mark.parametrize(
    "path", ["/slots", "/slots/0?action=save", "/lora-adapters", "/props", "/cors-proxy", "/tools", "/docs"]
)
def test_there_are_no_doors_to_files(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        refused(client.request(method, path, json={"filename": "../../x", "path": "/etc/passwd"}), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/vendor/../../cli/main.py",
        "/%2e%2e/app.py",
        "/vendor/..%2f..%2fllama.py",
        "/..\\x",
        "//etc/passwd",
    ],
)
def test_static_files_are_those_of_the_page(server: Any, path: str) -> None:
    status, _, body = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status in (400, 401, 404)
    assert b"import" not in body


# Keys.


def walk(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Path and method of every route, whether the OpenAPI document has it or not."""
    for outer in app.routes:
        inner = getattr(outer, "original_router", None)
        for route in inner.routes if inner else [outer]:
            assert isinstance(route, Route), f"what is {route!r}?"
            yield from ((route.path, method) for method in route.methods or ())


def test_every_route_but_health_and_the_page_needs_a_key(server: Any, models: Path) -> None:
    async def none() -> list[Family]:
        return []

    app = make_app(Library.of(Llama(models / "chain.gguf", threads=1)), families=none)
    routes = list(walk(app))
    open_to_all = {("/health", method) for method in ("GET", "HEAD")}
    open_to_all |= {(path, method) for path in page_files() for method in ("GET", "HEAD")}
    assert len(routes) > 20
    assert ("/metrics", "GET") in routes
    assert ("/openapi.json", "GET") in routes
    with server.client() as stranger:
        for path, method in routes:
            answer = stranger.request(method, re.sub(r"\{.*?\}", "chatty", path))
            if (path, method) in open_to_all:
                assert answer.status_code in (200, 405), (path, method)
            else:
                assert answer.status_code == 401, (path, method)


def test_a_key_in_a_file_cannot_take_the_name_of_another(launch: Launch, tmp_path: Path) -> None:
    """Owners share what was read: names that the command line gives its keys are free for nobody else."""
    file = KeyFile(tmp_path / "keys.json")
    taken = launch("-m", "chain.gguf", "--api-key", ALICE, LLAMERO_API_KEY=BOB).ready()
    names = re.findall(r"\[keys: (.*)\]", taken.text)[0].split(", ")
    assert len(names) == 2
    for name in names:
        with pytest.raises(SettingError):
            file.create(name)


def test_no_page_holds_a_key(server: Any) -> None:
    with server.client() as stranger:
        for path in page_files():
            assert ALICE not in stranger.get(path).text


def test_what_one_key_read_is_not_told_to_another(server: Any, launch: Launch) -> None:
    """cached_tokens, and what follows from it, tell whether somebody asked the same before."""
    words = "a secret that begins a long prompt of which another may guess the beginning " * 3
    body = HELLO | {"messages": [{"role": "user", "content": words[:150]}]}

    def cached(server: Any, key: str) -> int:
        with server.client(headers={"x-api-key": key}) as client:
            usage = client.post(CHAT, json=body).json()["usage"]
            return int(usage["prompt_tokens_details"]["cached_tokens"])

    def inspected(key: str) -> int:
        with server.client(headers={"x-api-key": key}) as client:
            return int(client.post("/v1/inspect", json=body).json()["cached_tokens"])

    assert cached(server, ALICE) < 64
    assert cached(server, ALICE) >= 64
    assert inspected(ALICE) >= 64
    assert inspected(BOB) == 0
    assert cached(server, BOB) == 0
    assert cached(server, BOB) >= 64
    with server.client(headers={"x-api-key": BOB}) as client:
        message = {"model": "chatty", "max_tokens": 5, "messages": [{"role": "user", "content": "x" * 150}]}
        assert client.post("/v1/messages", json=message).json()["usage"]["cache_read_input_tokens"] < 64
    shared = launch("-m", "chatty.gguf", "--api-key", ALICE, "--api-key", BOB, "--share-prefixes").ready()
    assert cached(shared, ALICE) == 0
    assert cached(shared, BOB) >= 64


# Other sites, other names (each rule alone: door/test_guard.py).


def test_other_sites_and_other_names_are_refused(server: Any) -> None:
    key = {"Authorization": f"Bearer {ALICE}"}
    with server.client(headers=key) as client:
        refused(client.post(CHAT, json=HELLO, headers={"Origin": "https://evil.example"}), 403)
        refused(
            client.post(CHAT, content=json.dumps(HELLO), headers={"Origin": "null", "Content-Type": "text/plain"}), 403
        )
        refused(client.get("/v1/models", headers={"Host": "evil.example"}), 421)
        refused(client.get("/health", headers={"Host": "evil.example"}), 421)
        answer = client.get("/v1/models", headers={"Origin": server.address})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


# Headers and ranges.


def raw(server: Any, text: str, more: bytes = b"") -> tuple[int, str, bytes]:
    """What comes back for these bytes: status, head, body; status 0 for a closed door."""
    host, _, port = server.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as door:
        try:
            door.sendall(text.encode("latin-1") + more)
            door.shutdown(socket.SHUT_WR)
            data = b""
            while part := door.recv(65536):
                data += part
        except ConnectionError:
            pass
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), head.decode("latin-1"), body


_POST = (
    f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ALICE}\r\nContent-Type: application/json\r\n"
)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
        "Content-Length: 5, 50\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFFFF\r\nhello\r\n",
        "Host: evil.example\r\nContent-Length: 0\r\n\r\n",
        "Authorization: Bearer x\r\nContent-Length: 0\r\n\r\n",
        "X: " + "a" * 70000 + "\r\n\r\n",
        "".join(f"X{n}: a\r\n" for n in range(500)) + "\r\n",
        "X: a\x00b\r\n\r\n",
        "X\x00: a\r\n\r\n",
        ": a\r\n\r\n",
        "X: a\rSet-Cookie: b\r\n\r\n",
    ],
)
def test_requests_that_two_programs_would_read_differently(server: Any, headers: str) -> None:
    status, head, body = raw(server, _POST + headers)
    assert status in (0, 400, 413, 431), (status, body)
    assert "Set-Cookie" not in head
    assert head.count("HTTP/1.1") <= 1
    assert b"choices" not in body


def test_bytes_that_are_no_http_after_an_answer(server: Any) -> None:
    """The 401 comes before the body, whose first chunk is none."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    host, _, port = server.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as door:
        door.sendall(head.encode())
        assert b"401 " in door.recv(65536)
        door.sendall(b"zz\r\n")
        with suppress(ConnectionError):
            while door.recv(65536):
                pass
    upgrade = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert raw(server, upgrade)[0] == 200
    assert "Fatal" not in server.text
    assert "Traceback" not in server.text
    assert "pip install" not in server.text


def test_strange_request_lines(server: Any) -> None:
    for line in (
        "GET http://evil.example/v1/models HTTP/1.1",
        "GET /v1/models HTTP/9.9",
        "GET  /v1/models HTTP/1.1",
        "GET /v1/models\x00 HTTP/1.1",
        "GET /" + "a" * 70000 + " HTTP/1.1",
        "CONNECT evil.example:80 HTTP/1.1",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ):
        status, _, body = raw(server, f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status in (0, 400, 401, 404, 405, 414, 431), (line[:50], status)
        assert b"chatty" not in body


def test_ranges_of_static_files_multiply_nothing(server: Any) -> None:
    many = "bytes=" + ",".join(f"{n}-" for n in range(1000))
    with server.client() as stranger:
        whole = stranger.get("/")
        for ranges in (many, "bytes=0-0,-1", "bytes=99999999999999999999-", "bytes=5-1", "lines=1-2"):
            answer = stranger.get("/", headers={"Range": ranges})
            assert answer.status_code in (200, 206, 416)
            assert len(answer.content) <= len(whole.content)


# Fields out of range, and what would eat the machine.


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 10**9},
        {"n": -1},
        {"n": 0},
        {"max_tokens": -1},
        {"max_tokens": 2**63},
        {"top_logprobs": 10**6, "logprobs": True},
        {"top_logprobs": -1, "logprobs": True},
        {"temperature": -1},
        {"temperature": 1e308},
        {"seed": 2**70},
        {"seed": -(2**70)},
        {"top_p": 2},
        {"top_k": -5},
        {"repeat_last_n": -(2**40)},
        {"presence_penalty": 1e9},
        {"stop": ["x"] * 10000},
        {"stop": "x" * 500_000},
        {"stop": [""]},
        {"logit_bias": {str(n): 1 for n in range(50_000)}},
        {"logit_bias": {"-1": 1}},
        {"logit_bias": {"99999999": 1}},
        {"logit_bias": {"5": 1e30}},
        {"messages": []},
        {"messages": [{"role": "user", "content": "a"}] * 20_000},
        {"messages": [{"role": "user", "content": "a" * 900_000}]},
        {"messages": [{"role": "user\x00", "content": "a"}]},
        {"overflow": "shift", "keep": -5},
        {"tools": [{"type": "function", "function": {"name": "../x", "parameters": {}}}]},
        {"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(5000)]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://evil/x"}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"$ref": "file:///etc/passwd"}},
            }
        },
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}},
        {"response_format": {"type": "regex", "regex": "(((((((a{1000}){1000}){1000}){1000}){1000}){1000}){1000})"}},
        {"response_format": {"type": "regex", "regex": "(" * 50_000}},
        {"grammar": "start: " + "a " * 200_000},
        {"n_discard": -5, "cache_prompt": True, "id_slot": -1},
    ],
)
def test_fields_out_of_range(client: httpx.Client, changed: dict[str, Any]) -> None:
    refused(client.post(CHAT, json=HELLO | changed, timeout=20), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"model": "chatty", "messages": NaN}',
        b'{"model": "chatty", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "chatty", "max_tokens": ' + b"9" * 10_000 + b"}",
        b'{"model": "chatty", "temperature": 1e999, "messages": [{"role": "user", "content": "a"}]}',
        b'{"model": "chatty", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}',
    ],
    ids=range(13),
)
@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/tokenize"]
)
def test_bodies_that_are_no_request(client: httpx.Client, path: str, body: bytes) -> None:
    refused(client.post(path, content=body, headers={"Content-Type": "application/json"}), 400, 413)


def test_bodies_too_large(server: Any, client: httpx.Client) -> None:
    refused(client.post(CHAT, json=HELLO | {"messages": [{"role": "user", "content": "a" * 2_000_000}]}), 413)

    def drops() -> Iterator[bytes]:
        for _ in range(100):
            yield b"a" * 65536

    with suppress(httpx.WriteError, httpx.RemoteProtocolError):  # cut off while it was still sending
        refused(client.post(CHAT, content=drops()), 413)
    bomb = b"\x1f\x8b\x08" + b"\x00" * 100  # a packed body is not unpacked
    refused(client.post(CHAT, content=bomb, headers={"Content-Encoding": "gzip"}), 400)
    assert client.get("/health").status_code == 200
    status, _, _ = raw(server, _POST + "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
    assert status == 413  # and no "100 Continue" before


def test_numbers_of_tokens_are_checked(client: httpx.Client) -> None:
    for prompt in ([-1], [2**40], [10**6], ["a"] * 100_000, [[1]] * 10_000):
        refused(client.post("/v1/completions", json={"model": "chain", "prompt": prompt, "max_tokens": 1}), 400)
    for body in ({"tokens": [-1]}, {"tokens": [2**70]}, {"ids": [-1]}):
        refused(client.post("/detokenize", json={"model": "chain"} | body), 400)
