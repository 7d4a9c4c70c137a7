"""Two processes on one socket: work is spread, the dead are replaced, both drain, counts are told together."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from threading import Barrier
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from llamero.interfaces.server.replicas import Replicas

Launch = Callable[..., Any]
HELLO = {"model": "circle", "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 20}
LONG = HELLO | {"max_tokens": 4000, "overflow": "shift", "stream": True}


@pytest.fixture(scope="module")
def pair(launch: Launch) -> Any:
    return launch("-m", "circle.gguf", "--replicas", "2", "--drain-timeout", "30").ready()


def replicas(server: Any) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children()
    return [one for one in found if "spawn_main" in " ".join(one.cmdline())]


def answered(server: Any) -> dict[str, float]:
    """How many chat requests each replica has answered."""
    with server.client() as client:
        text = client.get("/metrics").text
    (family,) = [family for family in parse(text) if family.name == "llamero_requests"]
    return {s.labels["replica"]: s.value for s in family.samples if s.labels["route"] == "/v1/chat/completions"}


def ask(server: Any, body: dict[str, Any] = HELLO) -> int:
    with server.client() as client:  # a connection of its own
        return client.post("/v1/chat/completions", json=body).status_code


def test_work_is_spread(pair: Any) -> None:
    assert len(replicas(pair)) == 2
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ask(pair), range(60))) == {200}
    counts = answered(pair)
    assert sum(counts.values()) == 60
    assert set(counts) == {"0", "1"}
    assert min(counts.values()) >= 6


def test_who_dies_is_started_again_and_the_other_answers_on(pair: Any) -> None:
    first, second = replicas(pair)
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    assert [ask(pair) for _ in range(10)] == [200] * 10
    deadline = time.monotonic() + 30
    while len(answered(pair)) < 2 or len(replicas(pair)) < 2:  # until the new one has answered, too
        ask(pair)
        assert time.monotonic() < deadline, pair.text
    assert second.pid in [one.pid for one in replicas(pair)]
    assert "replica died; it is started again" in pair.text


def test_a_drain_reaches_both(pair: Any) -> None:
    """Streams on both replicas end whole; then everything is gone."""
    processes = replicas(pair)

    begun = Barrier(7, timeout=30)

    def stream(_: int) -> str:
        with pair.client() as client, client.stream("POST", "/v1/chat/completions", json=LONG) as answer:
            lines = answer.iter_lines()
            next(lines)
            begun.wait()
            return [line for line in lines if line][-1]

    with ThreadPoolExecutor(6) as pool:
        streams = [pool.submit(stream, n) for n in range(6)]
        begun.wait()
        pair.signal()
        assert {one.result() for one in streams} == {"data: [DONE]"}
    assert pair.end() == 0
    assert not any(one.is_running() for one in processes)
    with pytest.raises(httpx.ConnectError):
        ask(pair)


def test_replicas_stop_when_their_parent_is_gone(launch: Launch) -> None:
    server = launch("-m", "chain.gguf", "--replicas", "2").ready()
    processes = replicas(server)
    os.kill(server.process.pid, signal.SIGKILL)
    gone, left = psutil.wait_procs(processes, timeout=15)
    assert (len(gone), left) == (2, [])


def test_a_signal_while_one_is_being_started_reaches_it_too() -> None:
    def start(_: int, __: socket.socket) -> BaseProcess:
        process = get_context("spawn").Process(target=time.sleep, args=(60,))
        process.start()
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    began = time.monotonic()
    assert Replicas(start, 1, drain=30).run(lambda: None) == 0
    assert time.monotonic() - began < 10


def test_replicas_that_cannot_start_end_it(launch: Launch) -> None:
    server = launch("-m", "chain.gguf", "--replicas", "2", "--cache", "q8_0", "--context", "2", "--device", "cuda:99")
    assert server.end(40) == 1
    assert "llamero serve: " in server.text
