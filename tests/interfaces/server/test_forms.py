"""Answers that must have a form, from random weights: JSON, a schema, an expression, a grammar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.library import Library
from llamero.model.config import Config

ASK: Any = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(
    serve: Callable[..., str], chain_file: Callable[..., Path], config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    random = np.random.default_rng(7)
    noise = random.normal(0, 0.1, (config.vocab, config.dim)).astype(np.float32)
    file = chain_file(tmp_path_factory.mktemp("forms") / "noise.gguf", output=noise)
    url = serve(make_app(Library.of(Llama(file, threads=1), "noise")))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    for seed in range(5):
        answer = client.chat.completions.create(model="noise", messages=ASK, response_format=form, seed=seed)
        person = json.loads(answer.choices[0].message.content or "")
        assert person.keys() == {"name", "age"}
        assert isinstance(person["age"], int)
        assert len(person["name"]) <= 8


def test_any_json_object_in_a_stream(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_object"}
    stream = client.chat.completions.create(
        model="noise", messages=ASK, response_format=form, seed=1, max_tokens=40, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("field", [{"regex": "(yes|no){2}"}, {"grammar": 'start: ("yes" | "no") ~ 2'}])
def test_expressions_and_grammars(client: openai.OpenAI, field: dict[str, str]) -> None:
    chat = client.chat.completions.create(model="noise", messages=ASK, n=2, extra_body=field, max_tokens=9)
    plain = client.completions.create(model="noise", prompt=["a", "b"], extra_body=field, max_tokens=9)
    texts = [choice.message.content for choice in chat.choices] + [choice.text for choice in plain.choices]
    assert set(texts) <= {"yesyes", "yesno", "noyes", "nono"}


@pytest.mark.parametrize(
    "field",
    [
        {"regex": "(unclosed"},
        {"grammar": "this is no grammar"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}},
        {"regex": "a", "grammar": 'start: "a"'},
        {"regex": "x" * 70_000},
    ],
)
def test_broken_forms_are_refused(client: openai.OpenAI, field: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="noise", messages=ASK, extra_body=field)
