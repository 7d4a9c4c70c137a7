"""The embedded model: in the package, small, well labelled, and able to speak whole sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from llamero import Llama
from llamero.formats.gguf import GGUF

FOLDER = files("llamero") / "embedded"
FILE = FOLDER / "llama-stories.gguf"


@pytest.fixture(scope="module")
def llama() -> Iterator[Llama]:
    with Llama() as model:
        yield model


def test_it_is_small_and_says_what_it_is() -> None:
    with FILE.open("rb") as file:
        assert 1 << 20 < file.seek(0, 2) <= 16 << 20
    metadata = GGUF.open(str(FILE)).metadata
    assert metadata["general.name"].startswith("Llama")
    card = (FOLDER / "CARD.md").read_text()
    for words in ("Built with Llama", "Llama 3.1 Community License", "CC BY", "TinyStories", "Held-out loss"):
        assert words in card, words


def test_it_is_found_without_a_name(llama: Llama) -> None:
    assert llama.path.name == "llama-stories.gguf"
    assert llama.context >= 512


@pytest.mark.parametrize("seed", range(3))
def test_it_tells_a_story_in_whole_sentences(llama: Llama, seed: int) -> None:
    story = llama.generate("Once upon a time", max_tokens=200, temperature=0.7, seed=seed).text
    sentences = re.findall(r"[^.!?]+[.!?]+[\"']?", story)
    assert len(sentences) >= 4
    starts = [re.sub(r"^[\s\"']+", "", sentence)[:1] for sentence in sentences[1:]]
    assert sum(start.isupper() for start in starts) >= 0.7 * len(starts)
    assert len(set(re.findall(r"\w+", story.lower()))) > 30


@pytest.mark.parametrize("question", ["Who are you?", "What is your name?", "Are you a person?"])
def test_it_says_that_it_is_a_demonstration(llama: Llama, question: str) -> None:
    answer = llama.chat([{"role": "user", "content": question}], temperature=0, max_tokens=60)
    assert answer.finish_reason == "stop"
    assert re.search("small|demonstration|program", answer.text)


@pytest.mark.parametrize("greeting", ["Hello!", "Good morning!", "Hi there"])
def test_it_answers_a_greeting(llama: Llama, greeting: str) -> None:
    answer = llama.chat([{"role": "user", "content": greeting}], temperature=0, max_tokens=60)
    assert answer.finish_reason == "stop"
    assert answer.text.rstrip().endswith((".", "!", "?"))
    assert 2 <= len(answer.text.split()) <= 30


def test_it_tells_a_story_when_asked(llama: Llama) -> None:
    answer = llama.chat(
        [{"role": "user", "content": "Tell me a story about a dog."}], temperature=0.5, seed=1, max_tokens=300
    )
    assert len(answer.text.split()) > 50
    assert "dog" in answer.text.lower()
