"""`/v1/messages` through Anthropic's official client: whole messages, streams, counts, refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import pytest

from llamero.interfaces.server.answer import Event
from llamero.interfaces.server.anthropic.content import MessageParam, template_messages
from llamero.interfaces.server.anthropic.messages_reply import message
from llamero.interfaces.server.anthropic.messages_stream import MessageFrames
from llamero.interfaces.server.refusals import Refusal

HELLO: Any = [{"role": "user", "content": "hello"}]
CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Lima"}}
GREEDY = {"temperature": 0}  # the newest client no longer knows it; older ones do


@pytest.fixture(scope="module")
def claude(chain: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=chain, api_key="none", max_retries=0) as client:
        yield client


def test_a_message(claude: anthropic.Anthropic, tale: str) -> None:
    answer = claude.messages.create(model="chain", max_tokens=50, messages=HELLO, extra_body=GREEDY, system="Be brief.")
    assert (answer.role, answer.type, answer.stop_reason, answer.stop_sequence) == (
        "assistant",
        "message",
        "end_turn",
        None,
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text.strip() == tale
    assert answer.usage.output_tokens == 18


def test_a_stream(claude: anthropic.Anthropic, tale: str) -> None:
    with claude.messages.stream(model="chain", max_tokens=50, messages=HELLO, extra_body=GREEDY) as stream:
        events = [event.type for event in stream]
        answer = stream.get_final_message()
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert answer.content[0].type == "text"
    assert answer.content[0].text.strip() == tale
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 18)


def test_why_it_stopped(claude: anthropic.Anthropic) -> None:
    cut = claude.messages.create(model="chain", max_tokens=3, messages=HELLO, extra_body=GREEDY)
    assert cut.stop_reason == "max_tokens"
    stopped = claude.messages.create(
        model="chain", max_tokens=50, messages=HELLO, extra_body=GREEDY, stop_sequences=["cares", "nothing"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "cares")


def test_tokens_are_counted_as_they_are_read(claude: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    counted = claude.messages.count_tokens(model="chain", messages=HELLO, system=system)
    answer = claude.messages.create(model="chain", max_tokens=1, messages=HELLO, system=system)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"model": "chian"}, "not_found_error", "did you mean 'chain'?"),
        ({"messages": []}, "invalid_request_error", "messages"),
        (
            {"messages": [*HELLO, {"role": "assistant", "content": "I"}]},
            "invalid_request_error",
            "the last one must be",
        ),
        ({"extra_body": {"max_token": 1}}, "invalid_request_error", "did you mean 'max_tokens'?"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "invalid_request_error", "do not think apart"),
        ({"messages": [{"role": "system", "content": "I"}, *HELLO]}, "invalid_request_error", "the field `system`"),
        ({"messages": [{"role": "user", "content": [CALL]}]}, "invalid_request_error", "tool_use is the assistant's"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "invalid_request_error", "choose from 'custom'"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "invalid_request_error", "context of 256"),
    ],
)
def test_refused_by_name(claude: anthropic.Anthropic, changed: dict[str, Any], kind: str, words: str) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.create(**{"model": "chain", "max_tokens": 5, "messages": HELLO} | changed)
    error: Any = caught.value.body
    assert error["error"]["type"] == kind
    assert words in error["error"]["message"]


def test_a_tool_is_used_in_a_stream(noise: str) -> None:
    number = {"a": {"type": "integer"}}
    schema = {"type": "object", "properties": number, "required": ["a"], "additionalProperties": False}
    options: dict[str, Any] = {"model": "noise", "max_tokens": 90, "messages": HELLO}
    options |= {"tools": [{"name": "add", "input_schema": schema}]}
    choice: Any = {"type": "tool", "name": "add", "disable_parallel_tool_use": True}
    with anthropic.Anthropic(base_url=noise, api_key="none", max_retries=0) as client:
        with client.messages.stream(**options, tool_choice=choice) as stream:
            answer = stream.get_final_message()
        (call,) = answer.content
        assert call.type == "tool_use"
        assert isinstance(call.input["a"], int)
        assert answer.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "3"}
        turns: Any = [*HELLO, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        again = client.messages.create(**options | {"messages": turns, "max_tokens": 3})
        counted = client.messages.count_tokens(model="noise", messages=turns, tools=options["tools"])
    assert again.usage.input_tokens + (again.usage.cache_read_input_tokens or 0) == counted.input_tokens


def test_tools_of_a_conversation_become_the_templates() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "How warm?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                CALL,
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "20"}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "no such city", "is_error": True},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    told = list(template_messages("Be brief.", [MessageParam.model_validate(turn) for turn in turns]))
    assert [each["role"] for each in told] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert told[2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Lima"}'}
    assert [each["content"] for each in told[3:]] == ["20", "Error: no such city", "Well?"]


def test_text_and_calls_are_blocks(events: Sequence[Event]) -> None:
    body = message(events)
    assert [block["type"] for block in body["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in body["content"][1:]] == [{"a": 1}, {"partial_json": '{"b": '}]
    assert body["stop_reason"] == "tool_use"
    assert (body["usage"]["input_tokens"], body["usage"]["cache_read_input_tokens"]) == (3, 2)


def test_blocks_begin_grow_and_stop_in_a_stream(events: Sequence[Event]) -> None:
    frames = MessageFrames()
    told = "".join(piece for event in events for piece in frames.push(event)) + "".join(frames.end())
    kinds = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == [
        *("message_start", "ping"),
        *block,
        *(*block[:2], "content_block_delta", "content_block_stop"),
        *block,
        *("message_delta", "message_stop"),
    ]
    assert '"type":"overloaded_error"' in "".join(frames.failed(Refusal(503, "busy")))
