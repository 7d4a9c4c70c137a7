"""`/v1/completions` through the official client."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest

from llamero import Llama


def test_texts_ids_and_lists(client: openai.OpenAI, tale: str) -> None:
    prompts: list[Any] = ["b", [1, 3], ["b", "c"], [[1, 3], [1, 4]]]
    for prompt in prompts:
        answer = client.completions.create(model="chain", prompt=prompt, temperature=0, max_tokens=30)
        nested = isinstance(prompt, list) and not isinstance(prompt[0], int)
        assert [choice.index for choice in answer.choices] == list(range(len(prompt) if nested else 1))
        assert {choice.text.strip() for choice in answer.choices} == {tale}
        assert {choice.finish_reason for choice in answer.choices} == {"stop"}
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 18 * len(answer.choices)


def test_sixteen_tokens_unless_told(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="chain", prompt="b", temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_several_answers_to_several_prompts_are_numbered_through(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="chain", prompt=["a", "b"], n=2, max_tokens=2, seed=5, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text[0] for choice in answer.choices] == ["a", "a", "b", "b"]
    assert answer.model_extra is not None
    assert answer.model_extra["seeds"] == [5, 6] * 2


def test_echo_begins_with_the_prompt(client: openai.OpenAI, tale: str) -> None:
    told = client.completions.create(model="chain", prompt="bad", echo=True, temperature=0, max_tokens=30)
    assert told.choices[0].text == f"bad {tale}"
    streamed = client.completions.create(model="chain", prompt="bad", echo=True, temperature=0, stream=True)
    assert next(chunk.choices[0].text for chunk in streamed) == "bad"


def test_how_likely_a_prompt_is(stories: str) -> None:
    """As evaluations ask: the prompt with its logprobs, and nothing written."""
    with Llama(threads=1, deterministic=True) as llama:
        ids = llama.tokenize("Once upon a time there was a dog.")
        logits = llama.logits(ids).astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    chances = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    expected = [float(chances[place, token]) for place, token in enumerate(ids[1:])]
    with openai.OpenAI(base_url=f"{stories}/v1", api_key="none", max_retries=0) as client:
        options: dict[str, Any] = {"model": "stories", "prompt": ids, "echo": True, "logprobs": 2, "max_tokens": 0}
        answer = client.completions.create(**options)
        told = answer.choices[0].logprobs
        assert answer.choices[0].text == "Once upon a time there was a dog."
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 0)
        assert told is not None
        assert told.token_logprobs is not None
        assert told.token_logprobs[0] is None
        assert told.token_logprobs[1:] == pytest.approx(expected, abs=2e-3)
        assert told.top_logprobs is not None
        assert told.top_logprobs[0] is None
        assert max(told.top_logprobs[1].values()) == pytest.approx(chances[0].max(), abs=2e-3)
        assert "".join(told.tokens or ()) == answer.choices[0].text
        longer = client.completions.create(**options | {"max_tokens": 3, "stream": True, "temperature": 0})
        entries = [each for chunk in longer if (each := chunk.choices[0].logprobs)]
        assert len([token for each in entries for token in each.tokens or ()]) == len(ids) + 3
        offsets = [offset for each in entries for offset in each.text_offset or ()]
        assert offsets[: len(ids)] == told.text_offset
        assert offsets[len(ids)] == len(answer.choices[0].text)


def test_logprobs_in_the_old_shape(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="chain", prompt="b", temperature=0, max_tokens=5, logprobs=2)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.tokens == [" Here", " is", " a", " tiny", " llama"]
    assert told.text_offset == [0, 5, 8, 10, 15]
    assert told.token_logprobs is not None
    assert all(-0.1 < logprob <= 0 for logprob in told.token_logprobs)
    assert told.top_logprobs is not None
    assert all(len(top) == 2 for top in told.top_logprobs)
    assert told.top_logprobs[0][" Here"] == told.token_logprobs[0]


def test_a_stream_tells_what_a_whole_answer_tells(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "chain", "prompt": "b", "temperature": 0, "max_tokens": 30, "logprobs": 1}
    whole = client.completions.create(**options)
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    *words, last, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in words) == whole.choices[0].text
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert whole.usage is not None
    assert usage.usage.completion_tokens == whole.usage.completion_tokens
    told = [chunk.choices[0].logprobs for chunk in words]
    expected = whole.choices[0].logprobs
    assert expected is not None
    assert [offset for each in told if each for offset in each.text_offset or []] == expected.text_offset


def test_special_tokens_are_text_unless_asked_for(client: openai.OpenAI) -> None:
    counts = []
    for special in (False, True):
        answer = client.completions.create(
            model="chain", prompt="<|turn|>", max_tokens=1, extra_body={"special": special}
        )
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
    assert counts[1] == 2 < counts[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"stop": ["x"] * 17}, "stop: list should have at most 16 items"),
        ({"prompt": [[]]}, "prompt[0]: list should have at least 1 item"),
        ({"prompt": ["a", 5]}, "prompt[1]: input should be a valid string"),
        ({"stream_options": 5}, "stream_options: input should be an object"),
    ],
)
def test_the_form_that_got_farthest_is_told(client: openai.OpenAI, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "chain", "prompt": "a"} | changed)
    assert words in caught.value.message
    assert caught.value.code == "invalid_value"


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [[1], ["a"]]}, "prompt[1][0]"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"n": 64, "prompt": ["a"] * 5}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": [300]}, None),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_refused_by_name(client: openai.OpenAI, changed: dict[str, Any], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "chain", "prompt": "a"} | changed)
    assert caught.value.param == param
