"""`/v1/embeddings` through the official client, beside `Llama.embed`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from llamero import Llama


@pytest.fixture(scope="module")
def client(stories: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stories}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_vectors_are_the_models_own_in_both_encodings(client: openai.OpenAI) -> None:
    texts = ["The dog ran home.", "A cat sat on a mat."]
    with Llama(threads=1, deterministic=True) as llama:
        expected = llama.embed(texts)
        ids = [llama.tokenize(text) for text in texts]
    plain = client.embeddings.create(model="stories", input=texts, encoding_format="float")
    packed = client.embeddings.create(model="stories", input=texts)  # the client asks for base64 by itself
    by_ids = client.embeddings.create(model="stories", input=ids)
    for answer in (plain, packed, by_ids):
        assert [each.index for each in answer.data] == [0, 1]
        np.testing.assert_allclose([each.embedding for each in answer.data], expected, atol=1e-5)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, ids))


def test_one_text(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="stories", input="Hello")
    assert len(answer.data) == 1
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1, abs=1e-5)
    same = client.embeddings.create(model="stories", input="Hello", dimensions=len(answer.data[0].embedding))
    assert same.data[0].embedding == answer.data[0].embedding


def test_as_many_texts_as_clients_send_at_once(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="stories", input=[[number] for number in range(3, 303)])
    assert [each.index for each in answer.data] == list(range(300))


@pytest.mark.parametrize(
    ("changed", "code", "param"),
    [
        ({"dimensions": 3}, "unsupported_parameter", "dimensions"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": [10**6]}, "invalid_value", None),
        ({"input": "dog " * 600}, "context_length_exceeded", "input"),
        ({"extra_body": {"inptu": "x"}}, "unknown_parameter", "inptu"),
    ],
)
def test_refused_by_name(client: openai.OpenAI, changed: dict[str, Any], code: str, param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": "stories", "input": "a"} | changed)
    assert caught.value.code == code
    if param:
        assert caught.value.param == param
