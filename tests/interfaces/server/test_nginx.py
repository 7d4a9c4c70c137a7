"""deploy/nginx.conf before two llameros: work is spread, streams pass unbuffered, who drains is relieved."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

Launch = Callable[..., Any]
CONF = Path(__file__).parents[3] / "deploy" / "nginx.conf"
NAME = "llm.example.org"
HELLO = {"model": "circle", "prompt": "hello", "max_tokens": 20}

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@pytest.fixture
def pair(launch: Launch, tmp_path: Path) -> list[Any]:
    return [
        launch("-m", "circle.gguf", "--unix-socket", str(tmp_path / f"{n}.sock"), "--allow-host", NAME).ready()
        for n in "ab"
    ]


@pytest.fixture
def client(pair: list[Any], tmp_path: Path) -> Iterator[httpx.Client]:  # noqa: ARG001
    """A client of nginx, which runs the file as it is but for https and where the sockets lie."""
    port = free_port()
    text = CONF.read_text().replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("/run/llamero", str(tmp_path))
    lines = [line for line in text.splitlines() if "ssl_certificate" not in line]
    whole = f"daemon off; user root; pid {tmp_path}/pid; error_log stderr; events {{}}\nhttp {{ access_log off;\n"
    (tmp_path / "nginx.conf").write_text(whole + "\n".join(lines) + "\n}\n")
    proxy = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": NAME}, timeout=30) as client:
        for _ in range(100):
            try:
                client.get("/health")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        yield client
    proxy.terminate()
    proxy.wait(10)


def counts(pair: list[Any], tmp_path: Path) -> list[int]:
    """How many requests each has answered."""
    found = []
    for name in "ab"[: len(pair)]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / f"{name}.sock"))) as client:
            text = client.get("http://localhost/metrics").text
        rows = [line for line in text.splitlines() if 'route="/v1/completions",method="POST",status="200"' in line]
        found.append(int(rows[0].split()[-1]) if rows else 0)
    return found


def test_two_behind_nginx(client: httpx.Client, pair: list[Any], tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: client.post("/v1/completions", json=HELLO).status_code, range(40)))
    assert set(codes) == {200}
    assert min(counts(pair, tmp_path)) >= 5

    endless = HELLO | {"stream": True, "overflow": "shift", "max_tokens": 10**8}
    with client.stream("POST", "/v1/completions", json=endless) as stream:
        began = time.monotonic()
        next(stream.iter_lines())
        assert time.monotonic() - began < 5  # unbuffered: an endless answer begins at once

    pair[0].signal()  # one drains, the other takes over
    assert {client.post("/v1/completions", json=HELLO).status_code for _ in range(20)} == {200}
    assert pair[0].end() == 0
    assert {client.post("/v1/completions", json=HELLO).status_code for _ in range(20)} == {200}
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
    own, other = {"Origin": f"https://{NAME}"}, {"Origin": "https://evil.example"}  # the page, and another's
    assert [client.post("/v1/completions", json=HELLO, headers=one).status_code for one in (own, other)] == [200, 403]
