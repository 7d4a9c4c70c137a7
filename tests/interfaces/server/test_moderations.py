"""`/v1/moderations`: a tiny Guard whose verdict is known, and its numbers read from its template."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from llamero import Llama
from llamero.interfaces.server.app import make_app
from llamero.interfaces.server.guarding import guard_categories
from llamero.interfaces.server.library import Library
from llamero.model.config import Config

GUARD_3 = """\
{{ bos_token }}Task: Check for unsafe content.
<BEGIN UNSAFE CONTENT CATEGORIES>
S1: Violent Crimes.
S5: Defamation.
S10: Hate.
<END UNSAFE CONTENT CATEGORIES>
{% for message in messages %}{{ message.content }}{% endfor %}
"""


def verdict_of(words: str, config: Config, sureness: float) -> np.ndarray[Any, Any]:
    """An output (vocab, dim) that spells `words`, of different letters, whatever came before, and ends."""
    bytes_from, end = 3, 2
    letters = [bytes_from + byte for byte in words.encode()]
    follows = dict.fromkeys(range(config.vocab), letters[0]) | dict(zip(letters, [*letters[1:], end], strict=True))
    output = np.zeros((config.vocab, config.dim), np.float32)
    for token, following in follows.items():
        output[following, token] = sureness
    return output


@pytest.fixture(scope="module")
def guard(
    serve: Callable[..., str], chain_file: Callable[..., Path], config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    file = tmp_path_factory.mktemp("guard") / "guard.gguf"
    chain_file(file, GUARD_3, output=verdict_of("unsafe\nS1", config, sureness=0.4))
    url = serve(make_app(Library.of(Llama(file, threads=1), "tiny-guard")))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_verdict(guard: openai.OpenAI, config: Config) -> None:
    answer = guard.moderations.create(model="tiny-guard", input=["something"])
    assert len(answer.results) == 1
    result = answer.results[0]
    assert result.flagged
    assert result.categories.violence
    assert result.categories.illicit_violent
    assert not result.categories.hate
    sure = math.exp(0.4 * math.sqrt(config.dim))  # a one-hot input after the norm
    assert result.category_scores.violence == pytest.approx(sure / (sure + config.vocab - 1), rel=5e-3)
    assert result.category_scores.hate == 0
    assert result.model_extra is not None
    assert result.model_extra["llama_guard"]["codes"] == {"S1": "Violent Crimes"}


def test_without_a_model_the_guard_is_taken(guard: openai.OpenAI) -> None:
    assert guard.moderations.create(input="something").model == "tiny-guard"


def test_another_model_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="is no Llama Guard"):
        client.moderations.create(model="chain", input="something")


def test_pictures_are_refused(guard: openai.OpenAI) -> None:
    picture: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(openai.BadRequestError, match="'image_url' is not supported: this model reads text only"):
        guard.moderations.create(input=picture)


def test_numbers_are_those_of_the_template() -> None:
    assert guard_categories(GUARD_3, "x") == {"S1": "Violent Crimes", "S5": "Defamation", "S10": "Hate"}
    second = GUARD_3.replace("S5: Defamation", "S5: Specialized Advice")
    assert guard_categories(second, "x")["S5"] == "Specialized Advice"
    escaped = '{{ "UNSAFE CONTENT CATEGORIES>\\nO1: Violence and Hate.\\nShould not\\nO2: Sexual Content.\\n" }}'
    assert guard_categories(escaped, "x") == {"O1": "Violence and Hate", "O2": "Sexual Content"}
