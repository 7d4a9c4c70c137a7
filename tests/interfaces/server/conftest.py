"""Real servers on loopback, and the official client."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from llamero import Llama
from llamero.formats.gguf import write_gguf
from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Text, Usage
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.counts.metrics import Metrics
from llamero.interfaces.server.library import Library
from llamero.interfaces.server.serving import Server, Serving, listen, protect
from llamero.model.config import Config
from llamero.model.config_files import config_to_gguf
from llamero.model.weights import named_tensors

Serve = Callable[[FastAPI], str]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of a server that answers with this application."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
    """The address of a server of the embedded model, whose answers depend on nothing but the prompt and the seed."""
    return serve(make_app(Library.of(Llama(threads=1, deterministic=True), "stories")))


@pytest.fixture(scope="module")
def client(chain: str) -> Iterator[openai.OpenAI]:
    """The official client of the tale's server."""
    with openai.OpenAI(base_url=f"{chain}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def serve_guarded(models: Path) -> Iterator[Callable[[], str]]:
    """Starts a server of ours, in this process, as `llamero serve` does; it gives the address."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(guarded(models / "chain.gguf"))


@contextmanager
def guarded(model: Path) -> Iterator[str]:
    app, drain = protect(make_app(Library.of(Llama(model, threads=1))), Serving(), Metrics())
    with listen("127.0.0.1", 0, 60) as door:
        server = Server(app, drain, Serving())
        thread = threading.Thread(target=lambda: asyncio.run(server._serve([door])))  # signals are the main thread's
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        server.should_exit = True
        thread.join()


class Launched:
    """`llamero serve` in a process of its own: its address, and all that it says on stderr."""

    def __init__(self, words: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
        command = [sys.executable, "-m", "llamero", "serve", "--threads", "1", *words]
        if "--port" not in words and "--unix-socket" not in words:
            command += ["--port", "0"]
        home = {"XDG_CONFIG_HOME": str(folder / "no-configuration")}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ | home | env
        )
        self.said: list[str] = []
        self.address = ""
        self._answers = threading.Event()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def ready(self) -> Launched:
        assert self._answers.wait(60), self.text
        assert self.address, self.text
        return self

    @property
    def text(self) -> str:
        return "".join(self.said)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, **options)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, patience: float = 20) -> int:
        """Wait for its end -> exit code."""
        code = self.process.wait(patience)
        self._listener.join(patience)
        return code

    def kill(self) -> None:
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"answers at (\S+)/v1|\"address\": \"([^\"]+)\"", line):
                self.address = found[1] or found[2]
            if self.address and re.search(r"keys: |listening", line):
                self._answers.set()
        self._answers.set()


@pytest.fixture(scope="module")
def launch(models: Path) -> Iterator[Callable[..., Launched]]:
    """Starts `llamero serve` in the folder of models; `ready()` waits until it answers. Ends with the module."""
    launched: list[Launched] = []

    def launch(*words: str, **env: str) -> Launched:
        launched.append(Launched(words, models, env))
        return launched[-1]

    yield launch
    for one in launched:
        if one.process.poll() is None:
            one.signal()
    for one in launched:
        one.kill()


@pytest.fixture(scope="session")
def events() -> list[Event]:
    """The events of an answer of words and two calls, the second of them cut short."""
    return [
        Begun("m", "fp", 5),
        Text(0, "I call."),
        CallBegun(0, 0, "t1", "add"),
        CallArguments(0, 0, '{"a": 1'),
        CallArguments(0, 0, "}"),
        CallBegun(0, 1, "t2", "cut"),
        CallArguments(0, 1, '{"b": '),
        Ended(0, "tool_calls", Usage(prompt_tokens=5, cached_tokens=2, completion_tokens=9)),
    ]


TEMPLATE = """\
{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}
Answer with {"name": function name, "parameters": dictionary of argument name and its value}.
{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}assistant:"""


def write_parrot(path: Path, pieces: Sequence[str] = (), template: str | None = None, noise: float = 0.0) -> Path:
    """A model that says these pieces, each a token of its own, and ends; or, with noise, anything."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    spoken = [len(tokens) + place for place in range(len(pieces))]
    tokens += [piece.replace(" ", "▁") for piece in pieces]
    vocab = -(-len(tokens) // 32) * 32
    tokens += [chr(0x4E00 + place) for place in range(vocab - len(tokens))]
    config = Config(
        dim=vocab, layers=1, heads=4, kv_heads=2, head_dim=32, ffn_dim=32, vocab=vocab, context=1024, tied=False
    )
    arrays = {name: np.zeros(shape, np.float32) for name, shape in config.shapes().items()}
    arrays |= {name: np.ones(array.shape, np.float32) for name, array in arrays.items() if array.ndim == 1}
    arrays["embedding"] = np.eye(vocab, dtype=np.float32)
    arrays["output"] = np.random.default_rng(3).normal(0, noise, (vocab, vocab)).astype(np.float32)
    if spoken:
        follows = dict.fromkeys(range(vocab), spoken[0]) | dict(zip(spoken, [*spoken[1:], 2], strict=True))
        for token, following in follows.items():
            arrays["output"][following, token] = 1.0
    words = {
        "general.name": "Parrot",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(place) for place in range(vocab)],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *(3 if each[:2] == "<|" else 1 for each in tokens[259:])],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": template or TEMPLATE,
    }
    write_gguf(path, config_to_gguf(config) | words, named_tensors(config, arrays, "gguf"))
    return path


@pytest.fixture(scope="session")
def parrot() -> Callable[..., Path]:
    """Writes a model that says certain pieces, or anything."""
    return write_parrot


@pytest.fixture(scope="module")
def noise(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a server of random weights, whose template shows functions."""
    file = write_parrot(tmp_path_factory.mktemp("noise") / "noise.gguf", noise=0.05)
    return serve(make_app(Library.of(Llama(file, threads=1), "noise")))
