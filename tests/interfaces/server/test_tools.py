"""Calls of functions through the official client: found in what a model writes, and required of random weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.library import Library

ASK: Any = [{"role": "user", "content": "What is one and two?"}]
PIECES = ["Let me add.", "\n", '{"name": "add"', ', "parameters": {"a": ', "1", ', "b": 2', "}}"]
TWICE = [*PIECES[2:], "; ", '{"name": "add", ', '"parameters": ', '{"a": 3}', "}"]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}
WAIT: Any = {"type": "function", "function": {"name": "wait"}}


@pytest.fixture(scope="module")
def ask(
    serve: Callable[..., str], parrot: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Asks a parrot of some pieces, with tools."""
    folder = tmp_path_factory.mktemp("parrots")
    clients: dict[str, openai.OpenAI] = {}

    def ask(pieces: list[str], *, template: str | None = None, noise: float = 0.0, **options: Any) -> Any:
        key = repr((pieces, template, noise))
        if key not in clients:
            file = parrot(folder / f"{len(clients)}.gguf", pieces, template, noise)
            url = serve(make_app(Library.of(Llama(file, threads=1), "parrot")))
            clients[key] = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        given = {"model": "parrot", "messages": ASK, "tools": [ADD, WAIT], "temperature": 0 if not noise else 1}
        return clients[key].chat.completions.create(**given | options)

    yield ask
    for client in clients.values():
        client.close()


def joined(stream: Any) -> tuple[str, list[tuple[str, str]], str]:
    """A stream's text, its calls (name, arguments), and why it ended."""
    text, calls, reason = "", {}, ""
    for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for piece in choice.delta.tool_calls or ():
            if piece.id:
                assert piece.type == "function"
                assert piece.index not in calls
                calls[piece.index] = (piece.function.name, "")
            name, arguments = calls[piece.index]
            calls[piece.index] = (name, arguments + piece.function.arguments)
    return text, [calls[index] for index in sorted(calls)], reason


def test_words_and_a_call(ask: Callable[..., Any]) -> None:
    choice = ask(PIECES).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me add."
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert (call.type, call.function.name) == ("function", "add")
    assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
    text, calls, reason = joined(ask(PIECES, stream=True))
    assert (text, reason) == ("Let me add.", "tool_calls")
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [("add", {"a": 1, "b": 2})]


def test_arguments_are_streamed_as_they_come(ask: Callable[..., Any]) -> None:
    pieces = [piece for chunk in ask(PIECES, stream=True) for piece in chunk.choices[0].delta.tool_calls or ()]
    assert len(pieces) >= 4
    assert pieces[0].function.arguments == ""
    assert all(piece.id is None for piece in pieces[1:])


def test_several_calls_and_only_one(ask: Callable[..., Any]) -> None:
    both = ask(TWICE).choices[0]
    assert [json.loads(call.function.arguments) for call in both.message.tool_calls] == [{"a": 1, "b": 2}, {"a": 3}]
    assert both.message.content is None
    assert len({call.id for call in both.message.tool_calls}) == 2
    alone = ask(TWICE, parallel_tool_calls=False)
    assert len(alone.choices[0].message.tool_calls) == 1
    assert alone.choices[0].finish_reason == "tool_calls"
    assert alone.usage.completion_tokens <= 6
    assert len(joined(ask(TWICE, stream=True))[1]) == 2
    assert len(joined(ask(TWICE, stream=True, parallel_tool_calls=False))[1]) == 1


def test_none_is_none(ask: Callable[..., Any]) -> None:
    choice = ask(PIECES, tool_choice="none").choices[0]
    assert choice.message.tool_calls is None
    assert choice.message.content == "".join(PIECES)
    assert choice.finish_reason == "stop"


def test_marks_never_reach_the_text(ask: Callable[..., Any]) -> None:
    marked = ["<|python_tag|>", *PIECES[2:]]
    called = ask(marked).choices[0].message
    assert (called.content, len(called.tool_calls)) == (None, 1)
    assert ask(marked, tool_choice="none").choices[0].message.content == "".join(PIECES[2:])


def test_a_call_that_is_cut_short(ask: Callable[..., Any]) -> None:
    choice = ask(PIECES, max_tokens=5).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.arguments.startswith('{"a":')


def test_required_of_random_weights(ask: Callable[..., Any]) -> None:
    for seed in range(3):
        choice = ask([], noise=0.05, tool_choice="required", seed=seed, max_tokens=80).choices[0]
        assert choice.message.tool_calls
        for call in choice.message.tool_calls:
            arguments = json.loads(call.function.arguments)
            if call.function.name == "add":
                assert isinstance(arguments["a"], int)
            assert call.function.name in ("add", "wait")


def test_named_of_random_weights(ask: Callable[..., Any]) -> None:
    choice: Any = {"type": "function", "function": {"name": "add"}}
    options: dict[str, Any] = {"noise": 0.05, "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 80}
    for seed in range(3):
        _, calls, _ = joined(ask([], seed=seed, stream=True, **options))
        assert [name for name, _ in calls] == ["add"]
        assert json.loads(calls[0][1]).keys() <= {"a", "b"}


def test_a_call_or_json_of_a_schema(ask: Callable[..., Any]) -> None:
    truth = {"x": {"type": "boolean"}}
    schema = {"type": "object", "properties": truth, "required": ["x"], "additionalProperties": False}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for seed in range(4):
        message = ask([], noise=0.05, response_format=form, seed=seed, max_tokens=80).choices[0].message
        assert message.tool_calls or json.loads(message.content).keys() == {"x"}


def test_results_go_back(ask: Callable[..., Any]) -> None:
    called = ask(PIECES).choices[0].message
    result: Any = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "3"}
    assert ask(PIECES, messages=[*ASK, called.model_dump(), result]).choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "subtract"}}}, "not among the tools"),
        ({"tools": [ADD, ADD]}, "two functions are named 'add'"),
        ({"tools": [], "tool_choice": "required"}, "there are no tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": None}}}]}, "by name"),
        ({"template": "{{ messages[0].content }}"}, "shows no functions"),
        ({"tool_choice": "required", "extra_body": {"regex": "x"}}, "does not go together with tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "'custom' is not supported: choose from 'function'"),
    ],
)
def test_refused_by_name(ask: Callable[..., Any], changed: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        ask(PIECES, **changed)
