"""Every answer and every event is of the clients' own types and of our OpenAPI document, strictly.

Nothing is missing, nothing of another type, and nothing beside it but what is llamero's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import anthropic.types
import httpx
import openai.types.chat
import openai.types.responses
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter

from llamero.interfaces.server.answer import Event
from llamero.interfaces.server.anthropic.messages_stream import MessageFrames
from llamero.interfaces.server.openai.chat_stream import ChatFrames
from llamero.interfaces.server.openai.responses import ResponseFrames
from llamero.interfaces.server.openai.responses_reply import Draft
from llamero.interfaces.server.openai.responses_request import ResponsesRequest
from llamero.interfaces.server.refusals import Refusal

OURS = {
    *("ChatCompletion.seeds", "ChatCompletion.timings", "ChatCompletionChunk.timings"),
    *("Completion.seeds", "Completion.timings", "CompletionUsage.dropped_tokens"),
    *("Logprob.bytes", "LogprobTopLogprob.bytes"),  # of a response's deltas; its whole texts have them anyway
    "Response.store",  # a field of requests that answers tell, too
    "ResponseFunctionCallArgumentsDoneEvent.name",  # required by the client until 3.0
}

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": PARAMETERS}
SCHEMA = {"name": "sum", "schema": PARAMETERS}
TOOL = {"name": "add", "input_schema": PARAMETERS}
REQUIRED = {"tool_choice": "required"}
LOGPROBS = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 40}
CLAUDE = {"model": "noise", "messages": HELLO, "max_tokens": 60}
CASES: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 2, "max_tokens": 5},
        openai.types.chat.ChatCompletion,
        openai.types.chat.ChatCompletionChunk,
    ),
    "chat with a call": (
        "/v1/chat/completions",
        {"messages": HELLO, "tools": [{"type": "function", "function": FUNCTION}], "max_tokens": 40} | REQUIRED,
        openai.types.chat.ChatCompletion,
        openai.types.chat.ChatCompletionChunk,
    ),
    "completions": (
        "/v1/completions",
        {"prompt": ["a", "b"], "logprobs": 2, "max_tokens": 5},
        openai.types.Completion,
        openai.types.Completion,
    ),
    "responses": (
        "/v1/responses",
        {"input": "hello", "metadata": {"a": "b"}} | LOGPROBS,
        openai.types.responses.Response,
        openai.types.responses.ResponseStreamEvent,
    ),
    "responses with a call": (
        "/v1/responses",
        {"input": "hello", "tools": [{"type": "function"} | FUNCTION]} | REQUIRED | LOGPROBS,
        openai.types.responses.Response,
        openai.types.responses.ResponseStreamEvent,
    ),
    "responses of a schema": (
        "/v1/responses",
        {"input": "hello", "text": {"format": {"type": "json_schema"} | SCHEMA}, "instructions": "Add."} | LOGPROBS,
        openai.types.responses.Response,
        openai.types.responses.ResponseStreamEvent,
    ),
    "messages": ("/v1/messages", CLAUDE, anthropic.types.Message, anthropic.types.RawMessageStreamEvent),
    "messages with a call": (
        "/v1/messages",
        CLAUDE | {"tools": [TOOL], "tool_choice": {"type": "any"}},
        anthropic.types.Message,
        anthropic.types.RawMessageStreamEvent,
    ),
}


@pytest.fixture(scope="module")
def document(noise: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{noise}/openapi.json", timeout=60).json()
    return body


def extras(value: Any) -> Iterator[str]:
    """The fields of an answer that its types do not have."""
    if isinstance(value, BaseModel):
        yield from (f"{type(value).__name__}.{name}" for name in value.model_extra or ())
        yield from extras([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, list):
        for each in value:
            yield from extras(each)


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once: the one of a response's events takes a second."""
    return TypeAdapter(kind)


def check(kind: Any, text: str) -> None:
    """The text is JSON of the client's type."""
    if kind is openai.types.Completion:  # says that this is never null, though in OpenAI's own chunks it is
        text = text.replace('"finish_reason":null', '"finish_reason":"stop"')
    assert set(extras(adapter(kind).validate_json(text, strict=True))) <= OURS


def data_of(stream: str) -> list[str]:
    """The JSON of the events that the client's types have."""
    told = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [text for text in told if text not in ("[DONE]", '{"type":"ping"}')]


@pytest.mark.parametrize("case", CASES)
def test_answers_and_streams(noise: str, document: dict[str, Any], case: str) -> None:
    path, body, whole, event = CASES[case]
    told = document["paths"][path]["post"]["responses"]["200"]["content"]
    schemas = {"components": document["components"]}

    answer = httpx.post(f"{noise}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    check(whole, answer.text)
    Draft202012Validator(told["application/json"]["schema"] | schemas).validate(answer.json())

    usage = {"stream_options": {"include_usage": True}} if "completions" in path else {}
    stream = httpx.post(f"{noise}{path}", json=body | {"stream": True} | usage, timeout=60)
    assert stream.status_code == 200, stream.text
    frames = data_of(stream.text)
    assert len(frames) > 2
    of_event = told["text/event-stream"]["itemSchema"]["properties"]["data"]["anyOf"][1]["contentSchema"]
    for frame in frames:
        check(event, frame)
        Draft202012Validator(of_event | schemas).validate(json.loads(frame))


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/v1/embeddings", {"input": ["a", "b"]}, openai.types.CreateEmbeddingResponse),
        ("/v1/models", None, openai.types.Model),
        ("/v1/messages/count_tokens", {"model": "", "messages": HELLO}, anthropic.types.MessageTokensCount),
    ],
)
def test_other_answers(noise: str, path: str, body: Any, kind: Any) -> None:
    answer = httpx.post(f"{noise}{path}", json=body, timeout=60) if body else httpx.get(f"{noise}{path}")
    told = answer.json()
    for each in told["data"] if kind is openai.types.Model else [told]:
        check(kind, json.dumps(each))


@pytest.mark.parametrize("path", sorted({path for path, *_ in CASES.values()}))
def test_errors(noise: str, document: dict[str, Any], path: str) -> None:
    for status, body in ((400, {}), (404, next(each for place, each, *_ in CASES.values() if place == path))):
        answer = httpx.post(f"{noise}{path}", json=body | {"model": "nobody"} if body else body, timeout=60)
        assert answer.status_code == status
        schema = document["paths"][path]["post"]["responses"][str(status)]["content"]["application/json"]["schema"]
        Draft202012Validator(schema | {"components": document["components"]}).validate(answer.json())
        if path == "/v1/messages":
            check(
                anthropic.types.ErrorResponse,
                answer.text.replace('{"type":"error"', '{"request_id":null,"type":"error"'),
            )


def test_what_fails_in_the_middle(events: Sequence[Event]) -> None:
    frames: list[tuple[Any, Any]] = [
        (ChatFrames(answers=1, usage=True), openai.types.chat.ChatCompletionChunk),
        (ResponseFrames(Draft(ResponsesRequest(input="x"))), openai.types.responses.ResponseStreamEvent),
        (MessageFrames(), anthropic.types.RawMessageStreamEvent),
    ]
    for translate, kind in frames:
        told = data_of("".join(piece for event in events[:-1] for piece in translate.push(event)))
        for text in told:
            check(kind, text)
        (last,) = data_of("".join(translate.failed(Refusal(503, "busy"))))
        assert "busy" in last
        if isinstance(translate, ResponseFrames):
            check(kind, last)
            assert [item["status"] for item in json.loads(last)["response"]["output"]] == ["completed"] * 2 + [
                "incomplete"
            ]
