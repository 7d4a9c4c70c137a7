"""`/v1/chat/completions` through the official client: whole answers, streams, and every way to be refused."""

from __future__ import annotations

from typing import Any

import openai
import pytest

HELLO: Any = [{"role": "user", "content": "hello"}]


def test_an_answer(client: openai.OpenAI, tale: str) -> None:
    answer = client.chat.completions.create(model="chain", messages=HELLO, temperature=0)
    choice = answer.choices[0]
    assert choice.message.content is not None
    assert choice.message.content.strip() == tale
    assert (choice.message.role, choice.finish_reason, choice.logprobs) == ("assistant", "stop", None)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 18
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 18
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("fp_")


def test_a_stream(client: openai.OpenAI, tale: str) -> None:
    stream = client.chat.completions.create(
        model="chain", messages=HELLO, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    first, *middle, last, usage = list(stream)
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle).strip() == tale
    assert [chunk.choices[0].finish_reason for chunk in middle] == [None] * len(middle)
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.content is None
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 18
    assert len({chunk.id for chunk in (first, *middle, last, usage)}) == 1


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"model": "chian"}, "model_not_found", "did you mean 'chain'?"),
        ({"messages": []}, "invalid_value", "messages: list should have at least 1 item"),
        ({"extra_body": {"temprature": 1}}, "unknown_parameter", "did you mean 'temperature'?"),
        ({"extra_body": {"functions": []}}, "unsupported_parameter", "'functions' is not supported: "),
        ({"max_tokens": 0}, "invalid_value", "max_tokens: input should be greater than or equal to 1"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "context_length_exceeded", "context of 256"),
    ],
)
def test_refused_by_name(client: openai.OpenAI, changed: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "chain", "messages": HELLO} | changed)
    assert caught.value.status_code == (404 if code == "model_not_found" else 400)
    assert caught.value.code == code
    assert words in caught.value.message
