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
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]},
            "invalid_value",
            "messages[0].content[0].type: 'image_url' is not supported: this model reads text only",
        ),
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


def test_a_stop_string_over_tokens(client: openai.OpenAI) -> None:
    stop = "th no ca"  # three tokens: " with", " no", " cares"
    whole = client.chat.completions.create(model="chain", messages=HELLO, temperature=0, stop=[stop, "never"])
    assert whole.choices[0].message.content == "Here is a tiny llama 🦙 wi"
    assert whole.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(model="chain", messages=HELLO, temperature=0, stop=stop, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == "Here is a tiny llama 🦙 wi"


def test_logprobs_with_bytes(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "chain", "messages": HELLO, "temperature": 0, "logprobs": True}
    answer = client.chat.completions.create(**options, top_logprobs=3, max_tokens=10)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert len(told.content) == 10
    spelt = b"".join(bytes(token.bytes or ()) for token in told.content)
    assert spelt.decode().strip() == "Here is a tiny llama 🦙"
    assert [token.token for token in told.content[6:10]] == ["\ufffd"] * 4  # four bytes of one character
    for token in told.content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob
        assert token.top_logprobs == sorted(token.top_logprobs, key=lambda each: -each.logprob)
    chunks = list(client.chat.completions.create(**options, max_tokens=10, stream=True))
    streamed = [entry for chunk in chunks if (each := chunk.choices[0].logprobs) for entry in each.content or ()]
    assert [entry.bytes for entry in streamed] == [entry.bytes for entry in told.content]
    assert all(entry.top_logprobs == [] for entry in streamed)


def test_several_answers_in_one_stream(client: openai.OpenAI, tale: str) -> None:
    chunks = client.chat.completions.create(model="chain", messages=HELLO, temperature=0, n=2, stream=True)
    texts, reasons, roles = ["", ""], ["", ""], [0, 0]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] += choice.finish_reason or ""
            roles[choice.index] += choice.delta.role is not None
    assert texts == [tale, tale]
    assert reasons == ["stop", "stop"]
    assert roles == [1, 1]


def test_a_bias_is_heeded(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="chain", messages=HELLO, temperature=0, max_tokens=3, logit_bias={"65": 100}
    )
    assert answer.choices[0].message.content == ">>>"  # token 65 is the byte 62
    with pytest.raises(openai.BadRequestError, match="logit_bias names token 999"):
        client.chat.completions.create(model="chain", messages=HELLO, logit_bias={"999": 1})


def test_a_seed_repeats_an_answer(stories: str) -> None:
    with openai.OpenAI(base_url=f"{stories}/v1", api_key="none", max_retries=0) as client:
        options: dict[str, Any] = {"model": "stories", "messages": HELLO, "temperature": 2, "max_tokens": 12}

        def texts(**changed: Any) -> list[str | None]:
            answer = client.chat.completions.create(**options | changed)
            return [choice.message.content for choice in answer.choices]

        first, second = texts(seed=3), texts(seed=4)
        assert first != second
        assert texts(seed=3, n=2) == first + second
        told = client.chat.completions.create(**options)
        assert told.model_extra is not None
        assert texts(seed=told.model_extra["seeds"][0]) == [told.choices[0].message.content]


def test_penalties_are_heeded(stories: str) -> None:
    with openai.OpenAI(base_url=f"{stories}/v1", api_key="none", max_retries=0) as client:
        story: Any = [{"role": "user", "content": "Tell me a story about a little dog."}]
        options: dict[str, Any] = {"model": "stories", "messages": story, "temperature": 0, "max_tokens": 60}
        plain = client.chat.completions.create(**options, logprobs=True).choices[0]
        varied = client.chat.completions.create(
            **options, logprobs=True, frequency_penalty=2, presence_penalty=2, extra_body={"repeat_penalty": 1.5}
        ).choices[0]
        assert plain.logprobs is not None
        assert varied.logprobs is not None
        used = [{token.token for token in each.content or ()} for each in (plain.logprobs, varied.logprobs)]
        assert len(used[1]) > len(used[0])


def test_what_was_read_before_is_told(stories: str) -> None:
    messages: Any = [{"role": "user", "content": "Tell me of a dog that found a bone by the river. " * 12}]
    with openai.OpenAI(base_url=f"{stories}/v1", api_key="none", max_retries=0) as client:
        cached = []
        for _ in range(2):
            usage = client.chat.completions.create(model="stories", messages=messages, max_tokens=1).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            cached.append(usage.prompt_tokens_details.cached_tokens or 0)
        assert cached[0] < 64 < cached[1] < usage.prompt_tokens


def test_hints_change_nothing(client: openai.OpenAI, tale: str) -> None:
    answer = client.chat.completions.create(
        model="chain",
        messages=[*HELLO, {"role": "assistant", "content": None, "refusal": None, "tool_calls": []}][:1],
        temperature=0,
        user="me",
        metadata={"a": "b"},
        store=False,
        modalities=["text"],
        service_tier="auto",
        prompt_cache_key="x",
        safety_identifier="y",
        response_format={"type": "text"},
    )
    assert answer.choices[0].message.content == tale


def test_an_answer_may_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="chain", messages=HELLO, max_tokens=3).choices[0].message
    messages: Any = [*HELLO, answer.model_dump(), {"role": "user", "content": "go on"}]
    assert client.chat.completions.create(model="chain", messages=messages, max_tokens=3).choices[0].message.content


def test_overflow_is_a_policy(client: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "x" * 600}, {"role": "assistant", "content": "y"}, *HELLO]
    answer = client.chat.completions.create(
        model="chain", messages=long, max_tokens=3, extra_body={"overflow": "truncate"}
    )
    assert answer.usage is not None
    assert answer.usage.model_extra is not None
    assert answer.usage.model_extra["dropped_tokens"] > 500
