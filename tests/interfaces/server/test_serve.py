"""`llamero serve` as it is used: started, asked, told to stop, and every way in which it refuses to start."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

Launch = Callable[..., Any]
Words = Callable[..., subprocess.CompletedProcess[str]]
HELLO = {"model": "chatty", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
ENDLESS = HELLO | {"model": "circle", "stream": True, "overflow": "shift", "max_tokens": 100_000_000}


def test_started_asked_and_stopped(launch: Launch, tale: str) -> None:
    server = launch("-m", "chatty.gguf", "-m", "other=chain.gguf", "--memory", "1G").ready()
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["chatty", "other"]
        answer = client.post("/v1/chat/completions?secret=in-query", json=HELLO).json()
        assert answer["choices"][0]["message"]["content"].strip() == tale
        assert client.get("/").headers["content-type"].startswith("text/html")
        assert client.get("/v1/models").headers["x-request-id"].startswith("req_")
        assert client.get("/v1/models", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
        assert client.get("/v1/models", headers={"x-request-id": "a b"}).headers["x-request-id"].startswith("req_")
    server.signal()
    assert server.end() == 0
    assert re.search(r"\[model chatty: a context of \d{3} tokens\]", server.text), server.text
    assert "1.00 GiB for models" in server.text
    assert "no keys: every program on this machine may ask, and no other machine" in server.text
    assert "request_id=mine-1 method=GET path=/v1/models status=200" in server.text
    assert "hello" not in server.text
    assert "in-query" not in server.text
    assert "Traceback" not in server.text


def test_metrics_are_counted(launch: Launch) -> None:
    server = launch("-m", "chatty.gguf", "--api-key", "key-of-test").ready()
    with server.client(headers={"x-api-key": "key-of-test"}) as client:
        for _ in range(3):
            client.post("/v1/chat/completions", json=HELLO)
        client.post("/v1/chat/completions", json={})
        client.get("/v1/nothing", headers={"x-api-key": "wrong"})
        client.get("/v1/made-up-by-a-client")
        text = client.get("/metrics").text
    samples = {(s.name, *sorted(s.labels.items())): s.value for family in parse(text) for s in family.samples}

    def value(name: str, **labels: str) -> float:
        return samples[name, *sorted(labels.items())]

    chat = {"route": "/v1/chat/completions", "method": "POST"}
    assert value("llamero_requests_total", **chat, status="200") == 3
    assert value("llamero_requests_total", **chat, status="400") == 1
    assert value("llamero_requests_total", route="none", method="GET", status="401") == 1
    assert value("llamero_requests_total", route="none", method="GET", status="404") == 1
    assert value("llamero_time_to_first_token_seconds_count", model="chatty") == 3
    assert value("llamero_time_between_tokens_seconds_count", model="chatty") == 3 * 17
    assert value("llamero_queue_seconds_count", model="chatty") == 3
    waited, first = (value(f"llamero_{name}_seconds_sum", model="chatty") for name in ("queue", "time_to_first_token"))
    assert 0 <= waited < first
    assert value("llamero_answer_seconds_count", model="chatty") == 3
    assert value("llamero_answer_tokens_sum", model="chatty") == 3 * 18
    assert value("llamero_answers_total", model="chatty", reason="stop") == 3
    read, found = (value("llamero_tokens_total", model="chatty", kind=kind) for kind in ("read", "found"))
    assert read + found == value("llamero_prompt_tokens_sum", model="chatty")
    assert found > 0
    assert 0 < value("llamero_cache_hit_ratio", model="chatty") < 1
    assert value("llamero_models_loaded") == 1
    assert value("llamero_runs", model="chatty", state="waiting") == 0
    assert "made-up" not in text


def test_logs_as_json_hold_prompts_when_asked_to(launch: Launch) -> None:
    server = launch("-m", "chatty.gguf", "--log-format", "json", "--log-prompts").ready()
    with server.client() as client:
        client.post("/v1/chat/completions?secret=in-query", json=HELLO, headers={"Authorization": "Bearer k-e-y"})
    server.signal()
    server.end()
    lines = [json.loads(line) for line in server.said]
    asked = next(line for line in lines if line["event"] == "request")
    assert (asked["method"], asked["path"], asked["status"]) == ("POST", "/v1/chat/completions", 200)
    assert json.loads(asked["asked"])["messages"][0]["content"] == "hello"
    assert next(line for line in lines if line["event"] == "listening")["models"] == ["chatty"]
    for secret in ("k-e-y", "in-query"):
        assert secret not in server.text


def test_answers_at_work_may_end_and_new_work_is_refused(launch: Launch) -> None:
    server = launch("-m", "circle.gguf", "--drain-timeout", "1").ready()
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=ENDLESS) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.signal()
        time.sleep(0.2)
        with server.client() as other:
            refused = other.get("/v1/models")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["x-content-type-options"] == "nosniff"
            assert other.get("/health", headers={"Host": "evil.example"}).status_code == 421
            health = other.get("/health")
            assert (health.status_code, health.json()["status"], health.json()["working"]) == (503, "draining", 1)
        last = deque(filter(None, lines), maxlen=1)[0]  # cut off, and not made to look whole
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "draining"
    assert server.end() == 0
    assert "Traceback" not in server.text


def test_a_drain_ends_with_the_last_answer(launch: Launch) -> None:
    server = launch("-m", "circle.gguf", "--drain-timeout", "60").ready()
    some = ENDLESS | {"max_tokens": 3000}
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=some) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.signal()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    began = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - began < 5


def test_a_second_signal_ends_at_once(launch: Launch) -> None:
    server = launch("-m", "circle.gguf", "--drain-timeout", "60").ready()
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=ENDLESS) as stream:
        lines = stream.iter_lines()
        next(lines)
        server.signal(signal.SIGINT)
        time.sleep(0.3)
        server.signal(signal.SIGINT)
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 5


def test_a_request_that_takes_too_long_is_ended(launch: Launch) -> None:
    server = launch("-m", "circle.gguf", "--request-timeout", "0.5s").ready()
    with server.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=ENDLESS) as stream:
            last = [line for line in stream.iter_lines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "request_timeout"
        whole = client.post("/v1/chat/completions", json=ENDLESS | {"stream": False})
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "request_timeout")
        time.sleep(0.3)
        metrics = client.get("/metrics").text
        assert 'llamero_runs{model="circle",state="writing"} 0' in metrics
        assert 'llamero_answers_total{model="circle",reason="cancelled"} 2' in metrics


def test_at_a_unix_socket(launch: Launch, llamero: Words, tmp_path: Path) -> None:
    place = tmp_path / "llamero.sock"
    server = launch("-m", "chatty.gguf", "--unix-socket", str(place)).ready()
    assert place.stat().st_mode & 0o007 == 0
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place)), base_url="http://localhost") as client:
        assert client.get("/health").status_code == 200
    server.signal(signal.SIGKILL)
    server.process.wait()
    again = launch("-m", "chatty.gguf", "--unix-socket", str(place)).ready()  # what the dead left is no obstacle
    taken = llamero("serve", "-m", "chatty.gguf", "--unix-socket", str(place))
    assert taken.returncode == 1
    assert "cannot listen at the socket" in taken.stderr
    again.signal()
    assert again.end() == 0
    assert not place.exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_https(launch: Launch, llamero: Words, tmp_path: Path) -> None:
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*make, *more], check=True, capture_output=True)
    server = launch("-m", "chatty.gguf", "--ssl-certfile", str(pem), "--ssl-keyfile", str(key)).ready()
    assert server.address.startswith("https://")
    with server.client(verify=ssl.create_default_context(cafile=pem)) as client:
        assert client.get("/health").status_code == 200
    broken = llamero("serve", "--port", "0", "-m", "chatty.gguf", "--ssl-certfile", str(pem), "--ssl-keyfile", str(pem))
    assert broken.returncode == 1
    assert "certificate or its key cannot be used" in broken.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "lets other machines ask, and there are no keys"),
        (["--host", "::"], "lets other machines ask"),
        (["--host", "256.1.1.1"], "lets other machines ask"),
        (["--no-auth", "--api-key", "some-key-123"], "contradict each other"),
        (["--api-key", "short"], "8 to 512 characters"),
        (["--keys", "none.json"], "there are no keys in none.json"),
        (["--port", "99999"], "a number from 0 to 65535"),
        (["--port", "9000", "--unix-socket", "here"], "not allowed with"),
        (["--replicas", "0"], "at least 1"),
        (["--host", "192.0.2.1", "--no-auth"], "no address of this machine"),
        (["-m", "chian.gguf"], "did you mean 'chain.gguf'?"),
        (["-m", "chain.gguf", "-m", "chain.gguf"], "two models are called 'chain'"),
        (["--memory", "2M"], "GiB of memory with its cache"),
        (["--context", "100000"], "context must be a whole number"),
        (["--allow-origin", "*"], "is no origin"),
        (["--ssl-certfile", "x.pem"], "needs both"),
        (["--ssl-certfile", "x.pem", "--ssl-keyfile", "x.pem"], "x.pem is not there"),
        (["--chat-template", "nowhere"], "there is no chat format 'nowhere'"),
        (["--drain-timeout", "-1"], None),
        (["--send-timeout", "0"], "--send-timeout must be a number from 0.01"),
        (["--send-timeout", "30d"], "--send-timeout must be a number from 0.01"),
        (["--request-timeout", "0"], "--request-timeout must be a number from 0.01"),
        (["--max-body", "1000"], "--max-body must be a whole number from 1024"),
        (["--memory", "8X"], "give it as 500M or 8G"),
        (["--keep-alive", "soon"], "give a number and a unit"),
    ],
)
def test_how_it_refuses_to_start(llamero: Words, words: list[str], said: str | None) -> None:
    told = llamero("serve", "--port", "0", *words)
    assert told.returncode in (1, 2)
    assert said is None or said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_port_that_is_taken(llamero: Words) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = str(door.getsockname()[1])
        told = llamero("serve", "-m", "chatty.gguf", "--port", port)
    assert told.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken by another program" in told.stderr


def test_help_shows_how(llamero: Words) -> None:
    told = llamero("serve", "--help")
    assert told.returncode == 0
    for words in ("examples:", "--keep-alive TIME", "llamero keys create", "--replicas"):
        assert words in told.stdout


def test_adapters_are_asked_for_by_name(launch: Launch, after_tiny: Any, tale: str) -> None:
    path = str(after_tiny())
    server = launch("-m", "chatty.gguf", "--lora", f"short={path}", "--lora", f"chatty:weak={path}:0.25").ready()
    with server.client() as client:
        names = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert names == ["chatty", "chatty:short", "chatty:weak"]

        def said(model: str) -> str:
            answer = client.post("/v1/chat/completions", json=HELLO | {"model": model})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["message"]["content"]).strip()

        assert [said(name) for name in names] == [tale, "Here is a tiny!", tale]
        refused = client.post("/v1/chat/completions", json=HELLO | {"model": "chatty:shore"})
        assert refused.status_code == 404
        assert "did you mean 'short'?" in refused.json()["error"]["message"]


def test_the_official_clients_send_their_keys(launch: Launch) -> None:
    server = launch("-m", "chatty.gguf", "--api-key", "key-of-test").ready()
    hello: Any = [{"role": "user", "content": "hello"}]
    for key in ("key-of-test", "wrong-key"):
        with (
            openai.OpenAI(base_url=f"{server.address}/v1", api_key=key, max_retries=0) as one,
            anthropic.Anthropic(base_url=server.address, api_key=key, max_retries=0) as other,
        ):
            if key == "wrong-key":
                with pytest.raises(openai.AuthenticationError, match="the key is not known here"):
                    one.models.list()
                with pytest.raises(anthropic.AuthenticationError, match="the key is not known here"):
                    other.messages.create(model="chatty", max_tokens=5, messages=hello)
            else:
                assert one.models.list().data[0].id == "chatty"
                assert other.messages.create(model="chatty", max_tokens=5, messages=hello).content


def test_a_stream_tells_how_loading_gets_on(launch: Launch, tale: str) -> None:
    server = launch("-m", "chain.gguf", "-m", "chatty.gguf").ready()
    with server.client() as client:
        answer = client.post("/v1/chat/completions", json=HELLO | {"stream": True})
        lines = answer.text.splitlines()
        assert any(re.fullmatch(r": loading \d+/\d+", line) for line in lines)
        text = "".join(
            json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in lines if line[:7] == "data: {"
        )
        assert text.strip() == tale
        again = client.post("/v1/chat/completions", json=HELLO | {"stream": True})
        assert ": loading" not in again.text


def test_a_broken_file_in_a_folder_is_its_own_trouble(launch: Launch, models: Path, tmp_path: Path) -> None:
    (tmp_path / "good.gguf").symlink_to(models / "chatty.gguf")
    (tmp_path / "half.gguf").write_bytes((models / "chatty.gguf").read_bytes()[:5000])  # still being fetched
    server = launch("--models", str(tmp_path)).ready()
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=HELLO | {"model": "good"}).status_code == 200
        failed = client.post("/v1/chat/completions", json=HELLO | {"model": "half"})
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "model_not_loaded")
        assert str(tmp_path) not in failed.text
        assert client.post("/v1/chat/completions", json=HELLO | {"model": "good"}).status_code == 200
