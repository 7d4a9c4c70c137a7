"""`/v1/responses` through the official client: whole responses, streams, conversations, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openai
import pytest

from llamero.interfaces.server.answer import Event
from llamero.interfaces.server.openai.responses_reply import Draft
from llamero.interfaces.server.openai.responses_request import ResponsesRequest

ADD: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}


def test_a_response(client: openai.OpenAI, tale: str) -> None:
    response = client.responses.create(model="chain", input="hello", temperature=0, metadata={"for": "a test"})
    assert response.output_text.strip() == tale
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert (response.temperature, response.metadata) == (0, {"for": "a test"})
    assert response.usage is not None
    assert response.usage.output_tokens == 18
    assert response.usage.total_tokens == response.usage.input_tokens + 18


def test_a_stream(client: openai.OpenAI, tale: str) -> None:
    events = list(client.responses.create(model="chain", input="hello", temperature=0, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas: list[str] = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.completed"
    assert "".join(deltas) == last.response.output_text
    assert last.response.output_text.strip() == tale


def test_the_clients_own_helper_reads_the_stream(client: openai.OpenAI, tale: str) -> None:
    with client.responses.stream(model="chain", input="hello", temperature=0) as stream:
        assert stream.get_final_response().output_text.strip() == tale


def test_cut_short(client: openai.OpenAI) -> None:
    response = client.responses.create(model="chain", input="hello", temperature=0, max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"


def test_a_conversation_goes_on_with_what_came_back(client: openai.OpenAI) -> None:
    first = client.responses.create(model="chain", input="hello", instructions="Be brief.", temperature=0)
    again: Any = [{"role": "user", "content": "hello"}, *first.output, {"role": "user", "content": "and?"}]
    second = client.responses.create(model="chain", input=again, instructions="Be brief.", temperature=0)
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.total_tokens


def test_logprobs(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="chain", input="hello", temperature=0, top_logprobs=2, include=["message.output_text.logprobs"]
    )
    message = response.output[0]
    assert message.type == "message"
    text = message.content[0]
    assert text.type == "output_text"
    assert text.logprobs is not None
    assert b"".join(bytes(token.bytes) for token in text.logprobs).decode().strip() == text.text.strip()
    assert all(len(token.top_logprobs) == 2 for token in text.logprobs)


def test_truncation_is_a_choice(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "x" * 600}, {"role": "user", "content": "hello"}]
    options: dict[str, Any] = {"model": "chain", "input": long, "max_output_tokens": 3}
    answer = client.responses.create(**options, truncation="auto")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    for given in ({}, {"truncation": "disabled"}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(**options | given)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")


def test_only_texts_have_logprobs(noise: str) -> None:
    options: dict[str, Any] = {"model": "noise", "input": "hello", "include": ["message.output_text.logprobs"]}
    options |= {"tools": [ADD], "tool_choice": "required", "parallel_tool_calls": False, "max_output_tokens": 40}
    with openai.OpenAI(base_url=f"{noise}/v1", api_key="none", max_retries=0) as client:
        (call,) = client.responses.create(**options).output
        assert call.type == "function_call"
        assert call.arguments.startswith("{")
        kinds = [event.type for event in client.responses.create(**options, stream=True)]
    assert "response.function_call_arguments.delta" in kinds
    assert "response.output_text.delta" not in kinds


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"previous_response_id": "resp_1"}, "send the whole conversation"),
        ({"store": True}, "store"),
        ({"reasoning": {"effort": "low"}}, "do not reason"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type: 'web_search' is not"),
        ({"extra_body": {"max_tokens": 3}}, "did you mean 'max_output_tokens'"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]}, "input_text"),
        ({"input": [{"type": "reasoning", "id": "r", "summary": []}]}, "'reasoning' is not supported: choose from"),
        ({"top_logprobs": 3}, "include"),
    ],
)
def test_refused_by_name(client: openai.OpenAI, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "chain", "input": "hello"} | changed)
    assert words in caught.value.message


def test_text_and_calls_take_turns(events: Sequence[Event]) -> None:
    draft = Draft(ResponsesRequest(model="m", input="hello"))
    changes = [change for event in events for change in draft.push(event)]
    added = [fields["item"]["type"] for kind, fields in changes if kind == "response.output_item.added"]
    done = [fields["item"] for kind, fields in changes if kind == "response.output_item.done"]
    assert added == ["message", "function_call", "function_call"]
    assert [item["status"] for item in done] == ["completed"] * 3
    assert done == draft.body["output"]
    assert done[1]["arguments"] == '{"a": 1}'
    assert changes[-1][0] == "response.completed"
    assert draft.body["usage"]["input_tokens_details"]["cached_tokens"] == 2
