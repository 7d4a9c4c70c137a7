"""Requests that are odd: bodies not called JSON, half surrogate pairs, deep nesting; routes that are not there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.json_bodies import JsonRoute
from llamero.interfaces.server.library import Library

CHAT = '"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'


def post(url: str, path: str, body: str) -> httpx.Response:
    return httpx.post(f"{url}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60)


@pytest.mark.parametrize(
    "field",
    [
        r'{"\ud83d": 1, ',
        r'{"model": "\ud83d", ',
        r'{"stop": "\ud83d", ',
        r'{"regex": "\ud83d", ',
        r'{"tool_choice": {"type": "\ud83d"}, ',
        r'{"template_variables": {"a": "\ud83d"}, ',
        r'{"tools": [{"type": "function", "function": {"name": "a", "description": "\ud83d"}}], ',
    ],
)
def test_half_a_surrogate_pair_in_a_chat(chain: str, field: str) -> None:
    answer = post(chain, "/v1/chat/completions", field + CHAT)
    assert answer.status_code == 400, answer.text
    assert "the body is not JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", r'{"messages": [{"role": "user", "content": "\ud83d"}]}'),
        ("/v1/completions", r'{"prompt": "\ud83d", "echo": true}'),
        ("/v1/embeddings", r'{"input": "\ud83d"}'),
        ("/v1/moderations", r'{"input": "\ud83d"}'),
        ("/v1/responses", r'{"input": "hi", "metadata": {"a": "\ud83d"}}'),
        ("/v1/responses", r'{"input": "hi", "instructions": "\ud83d"}'),
        ("/v1/messages", r'{"model": "\ud83d", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}'),
        ("/tokenize", r'{"prompt": "\ud83d"}'),
        ("/v1/inspect", r'{"messages": [{"role": "user", "content": "\ud83d"}]}'),
    ],
)
def test_half_a_surrogate_pair_elsewhere(chain: str, path: str, body: str) -> None:
    answer = post(chain, path, body)
    assert answer.status_code == 400, answer.text
    assert "the body is not JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("depth", [300, 900, 5000, 200_000])
@pytest.mark.parametrize(
    "field",
    [
        '{"logit_bias": ',
        '{"nothing": ',
        '{"template_variables": ',
        '{"response_format": ',
        '{"tools": ',
        '{"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": ',
        '{"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "a", "parameters": ',
    ],
)
def test_deep_nesting_is_refused(chain: str, field: str, depth: int) -> None:
    ends = {"{": "}", "[": "]"}
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        rest = "".join(ends[mark] for mark in reversed(field[1:]) if mark in ends)
        value = opening * depth + "1" + closing * depth
        answer = post(chain, "/v1/chat/completions", f"{field}{value}{rest}, {CHAT}")
        assert answer.status_code == 400, answer.text[:300]


def test_a_field_of_a_long_name_is_not_said_again(chain: str) -> None:
    answer = post(chain, "/v1/chat/completions", '{"' + "temperature" * 100_000 + '": 0, ' + CHAT)
    assert answer.status_code == 400
    assert "unknown field 'temperature" in answer.json()["error"]["message"]
    assert len(answer.content) < 2000


def test_every_route_with_a_body_reads_it_so(models: Path) -> None:
    app = make_app(Library.of(Llama(models / "chain.gguf", threads=1)))
    routers = [outer.original_router for outer in app.routes if hasattr(outer, "original_router")]
    routes = [route for router in routers for route in router.routes]
    assert len(routes) > 10
    for route in routes:
        assert isinstance(route, JsonRoute) == (route.body_field is not None), route.path


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
def test_what_is_not_called_json_is_refused_by_its_name(chain: str, kind: str | None) -> None:
    """`curl -d` calls every body a form."""
    headers = {} if kind is None else {"Content-Type": kind}
    answer = httpx.post(f"{chain}/v1/chat/completions", content="{" + CHAT, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert f"Content-Type is {kind or 'not given'}; send JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v1/v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("/api/tags", "/openapi.json lists every route"),
        ("/" + "x" * 9000, "/openapi.json lists every route"),
    ],
)
def test_a_route_that_is_not_there_names_the_nearest(chain: str, path: str, hint: str) -> None:
    answer = httpx.post(f"{chain}{path}", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].endswith(hint)


@pytest.mark.parametrize(
    ("path", "field", "value", "hint"),
    [
        ("/v1/chat/completions", "num_ctx", 8192, "--context"),
        ("/v1/chat/completions", "guided_json", {}, "response_format"),
        ("/v1/chat/completions", "chat_template_kwargs", {}, "template_variables"),
        ("/v1/completions", "repetition_penalty", 1.1, "repeat_penalty"),
        ("/v1/completions", "n_predict", 5, "max_tokens"),
    ],
)
def test_fields_of_other_servers_are_told_ours(chain: str, path: str, field: str, value: object, hint: str) -> None:
    asked = {"prompt": "a"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a"}]}
    error = httpx.post(f"{chain}{path}", json=asked | {field: value}).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)
    assert hint in error["message"]
