"""Streams as bytes: comments on progress, and errors in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.catalogue import Catalogue, Entry
from llamero.interfaces.server.library import Library
from llamero.model.config import Config

BODY = {"messages": [{"role": "user", "content": "x" * 200}], "stream": True, "max_tokens": 2}


def lines(url: str) -> list[str]:
    answer = httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return [line for line in answer.text.splitlines() if line]


def test_how_reading_gets_on(serve: Callable[..., str], models: Path) -> None:
    llama = Llama(models / "chatty.gguf", threads=1)
    llama.engine.chunk = 16
    told = lines(serve(make_app(Library.of(llama, "chain"))))
    assert told[0].startswith('data: {"id":"chatcmpl-')
    reading = [line.removeprefix(": reading ").split("/") for line in told if line.startswith(": reading ")]
    counts = [int(done) for done, _ in reading]
    assert len(counts) > 5
    assert counts == sorted(counts)
    assert {int(total) for _, total in reading} == {219}
    assert told[-1] == "data: [DONE]"


def test_how_loading_gets_on(serve: Callable[..., str], models: Path) -> None:
    library = Library(Catalogue([Entry(name="chain", path=models / "chatty.gguf")]))
    told = lines(serve(make_app(library)))
    loading = [line for line in told if line.startswith(": loading ")]
    assert loading
    assert loading == told[: len(loading)]
    done, total = loading[-1].removeprefix(": loading ").split("/")
    assert done == total


@pytest.fixture(scope="module")
def broken(
    serve: Callable[..., str], chain_file: Callable[..., Path], config: Config, tmp_path_factory: pytest.TempPathFactory
) -> str:
    output = np.full((config.vocab, config.dim), np.nan, np.float32)
    file = chain_file(tmp_path_factory.mktemp("broken") / "broken.gguf", output=output)
    return serve(make_app(Library.of(Llama(file, threads=1), "broken")))


def test_an_error_in_the_middle(broken: str) -> None:
    *_, last = lines(broken)
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "model_error"
    assert "not finite" in error["message"]


def test_the_client_raises_it(broken: str) -> None:
    hello: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(base_url=f"{broken}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIError, match="not finite"):
            list(client.chat.completions.create(model="broken", messages=hello, stream=True))
        with pytest.raises(openai.InternalServerError, match="not finite"):
            client.chat.completions.create(model="broken", messages=hello)
