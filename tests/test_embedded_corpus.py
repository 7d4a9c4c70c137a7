"""Tests of recipes/embedded_corpus.py: texts are cleaned, asked for and told the same way every time."""

from __future__ import annotations

import importlib.util
import json
import lzma
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
STORY = (
    "Once upon a time, there was a small llama named Pia. Pia saw a kite. The kite was red. She wanted the kite. "
    "The wind took the kite. Pia ran and ran until the kite fell into the lake, and a kind duck brought it back. "
    "Pia said thank you. The duck and Pia played all day, and then they went home to sleep."
)


@pytest.fixture(scope="module")
def corpus() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("embedded_corpus", RECIPES / "embedded_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["embedded_corpus"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["embedded_corpus"]


def shelf(folder: Path, books: list[dict[str, str]]) -> Path:
    """A folder with the few files that are read."""

    def put(name: str, text: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(lzma.compress(text.encode()))

    put("tinystories/train_first1000.json.xz", json.dumps([STORY]))
    put("tinystories/train_head_cased.txt.xz", STORY + "\n" + STORY.replace("llama", "lion"))
    put("tinystories/train_10k_lines.txt.xz", STORY.replace("llama", "fox") + "\n<|endoftext|>\n" + "too short.")
    put("tinystories/train_head_recased.txt.xz", STORY.replace("Pia", "pia") + "\n" + STORY.replace("kite", "Drum"))
    put("storybooks_en_fr_pt.jsonl.xz", "\n".join(map(json.dumps, books)))
    record = {"kind": "generated-child", "prompt": "Tell the child-appropriate tale called `Pia`.", "response": STORY}
    bloody = record | {"response": STORY.replace("red", "red as blood")}
    told = record | {"response": "Pia and the Boat\n\n" + STORY.replace("kite", "boat")}
    put("synthetic/llama31_stories.jsonl.xz", "\n".join(map(json.dumps, [record, bloody, told])))
    return folder


def test_stories_are_cleaned_and_told_once(corpus: ModuleType, tmp_path: Path) -> None:
    book = {"lang": "en", "license": "CC-BY", "title": "The hat", "text": STORY.replace("kite", "hat")}
    books = [
        book,
        book | {"license": "CC BY-NC-SA", "text": STORY.replace("kite", "bell")},
        book | {"lang": "fr", "text": STORY.replace("kite", "ballon")},
    ]
    stories = corpus.stories(shelf(tmp_path, books))
    assert [story.tier for story in stories] == ["tiny"] * 4 + ["picture book", "generated-child"]
    texts = [story.text for story in stories]
    assert texts[0] == STORY  # the copy that kept its capitals won
    assert not any(word in text for text in texts for word in ("bell", "ballon", "blood", "Pia and the Boat"))
    assert "Tell me a story about a small llama named Pia." in stories[0].prompts
    assert "Tell me a story about a kite." in stories[0].prompts
    assert "Tell the story called 'Pia'." in stories[5].prompts
    assert stories == corpus.stories(tmp_path)


def test_broken_characters_are_put_right(corpus: ModuleType) -> None:
    broken = "“Hello,” she said – it’s me…".encode().decode("cp1252", "replace")
    assert corpus._clean("â€œHelloâ€\x9d, itâ€™s me") == '"Hello", it\'s me'
    assert corpus._clean("“Hi” – it’s me…") == '"Hi" - it\'s me...'
    assert "it's me" in corpus._clean(broken)


def test_every_talk_can_be_held(corpus: ModuleType) -> None:
    talks = corpus.talks(RECIPES / "embedded_talk.txt")
    assert len(talks) > 100
    for number, talk in enumerate(talks):
        (user, said), (assistant, answered) = corpus.exchange(talk, random.Random(number))
        assert (user, assistant) == ("user", "assistant")
        assert said.isascii()
        assert "{" not in said + answered
        assert answered[0].isupper()
        assert answered[-1] in ".!?"


def test_the_same_seed_gives_the_same_conversation(corpus: ModuleType, tmp_path: Path) -> None:
    talks = corpus.talks(RECIPES / "embedded_talk.txt")
    story = corpus.stories(shelf(tmp_path, []))[0]
    one, other = ([corpus.conversation(talks, story, random.Random(s)) for s in range(9)] for _ in range(2))
    assert one == other
    assert all(("assistant", STORY) in messages for messages in one)
