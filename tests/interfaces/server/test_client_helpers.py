"""The official client's own helpers: parsed objects, streamed events, raw answers, and the asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

HELLO: Any = [{"role": "user", "content": "hello"}]


class Person(pydantic.BaseModel):
    """What is to come back."""

    name: str = pydantic.Field(max_length=6)
    age: int = pydantic.Field(ge=0, le=99)


class Add(pydantic.BaseModel):
    """Adds two numbers."""

    a: int
    b: int


@pytest.fixture(scope="module")
def random(noise: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{noise}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_objects_are_parsed(random: openai.OpenAI) -> None:
    answer = random.chat.completions.parse(model="noise", messages=HELLO, response_format=Person, max_tokens=80, seed=2)
    person = answer.choices[0].message.parsed
    assert isinstance(person, Person)


def test_calls_are_parsed(random: openai.OpenAI) -> None:
    answer = random.chat.completions.parse(
        model="noise",
        messages=HELLO,
        tools=[openai.pydantic_function_tool(Add, name="add")],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=80,
        seed=3,
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Add)


def test_events_of_a_stream(random: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "noise", "messages": HELLO, "response_format": Person, "max_tokens": 80}
    with random.chat.completions.stream(**options, seed=4, stream_options={"include_usage": True}) as stream:
        kinds = {event.type for event in stream}
        last = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(last.choices[0].message.parsed, Person)
    assert last.usage is not None


def test_raw_answers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="chain", messages=HELLO, max_tokens=2)
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].finish_reason == "length"
    assert [model.id for model in client.models.list()] == ["chain"]
    assert client.models.retrieve("chain").id == "chain"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("chains")


def test_many_at_once_from_the_asynchronous_client(chain: str, tale: str) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{chain}/v1", api_key="none", max_retries=0) as client:

            async def one(stream: bool) -> str:
                if not stream:
                    answer = await client.chat.completions.create(model="chain", messages=HELLO, temperature=0)
                    return answer.choices[0].message.content or ""
                chunks = await client.chat.completions.create(model="chain", messages=HELLO, temperature=0, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            return await asyncio.gather(*(one(bool(number % 2)) for number in range(24)))

    assert asyncio.run(ask()) == [tale] * 24
