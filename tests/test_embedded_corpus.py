"""Tests of the embedded model's texts: cleaned, asked for and told the same way every time, and right in its world."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import lzma
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

RECIPES = Path(__file__).parents[1] / "recipes"
STORY = (
    "Once upon a time, there was a small llama named Pia. Pia saw a kite. The kite was red. She wanted the kite. "
    "The wind took the kite. Pia ran and ran until the kite fell into the lake, and a kind duck brought it back. "
    "Pia said thank you. The duck and Pia played all day, and then they went home to sleep."
)
ANIMALS = ["lion", "wolf", "bear", "mouse", "hen"]


@pytest.fixture(scope="module")
def corpus() -> Iterator[ModuleType]:
    yield from loaded("embedded_corpus")


@pytest.fixture(scope="module")
def texts() -> Iterator[ModuleType]:
    yield from loaded("embedded_texts")


@pytest.fixture(scope="module")
def talk(corpus: ModuleType) -> Iterator[ModuleType]:
    assert corpus.__name__ in sys.modules  # it is imported by name
    yield from loaded("embedded_chat")


def loaded(name: str) -> Iterator[ModuleType]:
    """A module of the recipes, which are no package."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def shelf(folder: Path, books: list[dict[str, str]]) -> Path:
    """A folder with the few files that are read."""

    def put(name: str, text: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(lzma.compress(text.encode()))

    put("tinystories/train_first1000.json.xz", json.dumps([STORY]))
    put(
        "tinystories/train_head_cased.txt.xz",
        "\n".join(STORY.replace("llama", animal) for animal in ("llama", *ANIMALS)),
    )
    put("tinystories/train_10k_lines.txt.xz", STORY.replace("llama", "fox") + "\n<|endoftext|>\n" + "too short.")
    put("tinystories/train_head_recased.txt.xz", STORY.replace("Pia", "pia") + "\n" + STORY.replace("kite", "Drum"))
    put("storybooks_en_fr_pt.jsonl.xz", "\n".join(map(json.dumps, books)))
    record = {"kind": "generated-child", "prompt": "Tell the child-appropriate tale called `Pia`.", "response": STORY}
    bloody = record | {"response": STORY.replace("red", "red as blood")}
    told = record | {"response": "Pia and the Boat\n\n" + STORY.replace("duck", "goose")}
    passage = " ".join([STORY.replace("duck", "swan")] * 4)
    put("books_children.jsonl.xz", json.dumps({"text": passage}))
    put("synthetic/llama31_stories.jsonl.xz", "\n".join(map(json.dumps, [record, bloody, told])))
    return folder


def test_stories_are_cleaned_and_told_once(corpus: ModuleType, tmp_path: Path) -> None:
    book = {"lang": "en", "license": "CC-BY", "title": "The hat", "text": STORY.replace("kite", "hat")}
    books = [
        book,
        book | {"license": "CC BY-NC-SA", "text": STORY.replace("kite", "gong")},
        book | {"lang": "fr", "text": STORY.replace("kite", "ballon")},
    ]
    stories = corpus.stories(shelf(tmp_path, books))
    assert [story.tier for story in stories] == ["tiny"] * 8 + ["picture book", "generated-child", "book"]
    texts = [story.text for story in stories]
    assert texts[0] == STORY  # the copy that kept its capitals won
    assert not any(word in text for text in texts for word in ("gong", "ballon", "blood", "Pia and the Boat"))
    assert "Tell me a story about a small llama named Pia." in stories[0].prompts
    assert "Tell me a story about a kite." in stories[0].prompts
    assert stories[0].hero == "a small llama named Pia"
    assert not stories[10].prompts  # a passage is no whole story
    assert "Tell the story called 'Pia'." in stories[9].prompts
    assert stories == corpus.stories(tmp_path)


def test_further_stories_are_taken_where_they_are_new(corpus: ModuleType, tmp_path: Path) -> None:
    folder, more = shelf(tmp_path, []), tmp_path / "more"
    before = corpus.stories(folder)
    more.mkdir()
    retold = STORY.replace("The kite was red.", "The kite was made of thin blue paper.")  # one sentence of it is new
    fresh = (
        "One day, a girl named Mia found a little door behind the old oak tree. She knocked three times and waited.\n"
        "A tiny man with a long beard looked out and asked her to come in for tea. Mia had to crawl on her knees.\n"
        "They ate warm bread with honey, and Mia told him all about her school. Then she went home before it got dark."
    )
    (more / "b.txt").write_text(f"{fresh}\n<|endoftext|>\n{retold}\n<|endoftext|>\ntoo short.")
    (more / "c.txt").write_text(f"{STORY}\n<|endoftext|>\n{fresh.upper()}")
    told = [story for story in corpus.stories(folder, more) if story not in before]
    assert [story.text for story in told] == [fresh.replace("\n", "\n\n")]
    assert told[0].tier == "tiny"
    assert "Tell me a story about a girl named Mia." in told[0].prompts


def test_texts_are_read_from_every_form(texts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def source(data: bytes) -> object:
        sha256 = hashlib.sha256(data).hexdigest()
        (tmp_path / sha256[:16]).write_bytes(data)
        return texts.Source("someone/something", "0" * 40, "file", sha256)

    letters = {byte: letter for letter, byte in texts.byte_letters().items()}
    pieces = [bytes([byte]) for byte in range(256)] + [b"Once", " \N{SNOWMAN}".encode()]
    vocabulary = {"".join(letters[byte] for byte in piece): number for number, piece in enumerate(pieces)}
    monkeypatch.setattr(texts, "GPT2", source(json.dumps(vocabulary | {texts.END: 258}).encode()))
    ids = np.array([65, 258, 256, 257, 10, 66, 258, 67, 258, 68], "<u2").tobytes()
    assert texts.gpt2(ids, tmp_path) == ["Once \N{SNOWMAN}\nB", "C"]
    vocabulary = {str(number): piece.hex() for number, piece in enumerate(pieces)}
    monkeypatch.setattr(texts, "BYTES", source(json.dumps({"vocab": vocabulary}).encode()))
    ids = np.frombuffer(b"cut\nOnce\nA\n\nB\nno story\ncut", np.uint8).astype("<u2").tobytes()
    assert texts.byte_pairs(ids, tmp_path) == ["Once", "A\n\nB"]
    assert texts.listed(b'{"texts": ["a", "b"]}', tmp_path) == ["a", "b"]
    assert texts.divided(b"a\0b\0cu", tmp_path) == ["a", "b"]


def test_a_text_with_another_hash_is_refused(texts: ModuleType, tmp_path: Path) -> None:
    source = texts.Source("someone/something", "0" * 40, "file", hashlib.sha256(b"right").hexdigest())
    (tmp_path / source.sha256[:16]).write_bytes(b"wrong")
    with pytest.raises(
        SystemExit, match=r"someone/something/file at 000000000000: another hash than expected; .*: delete it"
    ):
        source.read(tmp_path)
    (tmp_path / source.sha256[:16]).write_bytes(b"right")
    assert source.read(tmp_path) == b"right"


def test_broken_characters_are_put_right(corpus: ModuleType) -> None:
    broken = "“Hello,” she said – it’s me…".encode().decode("cp1252", "replace")
    assert corpus._clean("â€œHelloâ€\x9d, itâ€™s me") == '"Hello", it\'s me'
    assert corpus._clean("“Hi” – it’s me…") == '"Hi" - it\'s me...'
    assert "it's me" in corpus._clean(broken)


def test_everything_can_be_said(talk: ModuleType) -> None:
    chat = talk.Chat()
    assert len(chat.talk) > 150
    assert sum(len(block.rows) for block in chat.world) > 1000
    for number, block in enumerate(chat.talk + chat.world):
        for role, said in chat.hold(block, random.Random(number)):
            assert said.isascii()
            assert not {"{", "}", "|"} & set(said), said
            assert " - " not in said
            if role == "assistant":
                assert said[0].isupper() or said[0].isdigit()
                assert said[-1] in ".!?"


def test_the_lists_of_words_and_tables_are_used(talk: ModuleType) -> None:
    texts = "".join(path.read_text() for path in talk.FILES)
    for name in re.findall(r"^\$ (\w+):", texts, re.MULTILINE):
        assert f"{{{name}}}" in texts, name
    for name in re.findall(r"^@ (\w+):", texts, re.MULTILINE):
        assert f"{{{name}[" in texts, name


def test_sums_are_right(talk: ModuleType) -> None:
    value = {word: number for number, word in enumerate(talk.NUMBERS)}
    for seed in range(300):
        said, answered = talk._sum(random.Random(seed))
        one, sign, other, result = re.fullmatch(r"(\w+) (plus|minus) (\w+) is (\w+)\.", answered.lower()).groups()
        a, b, c = (value[word] if word in value else int(word) for word in (one, other, result))
        assert c == (a + b if sign == "plus" else a - b), (said, answered)
        assert one in said.lower()


def test_sizes_and_neighbours_agree_with_their_order(talk: ModuleType) -> None:
    places = {name: place for place, name in enumerate(talk.SIZES)}
    for seed in range(200):
        _, answered = talk._animals(random.Random(seed))
        one, word, other = re.search(r"(an? \w+) is (bigger|smaller) than (an? \w+)\.", answered.lower()).groups()
        assert (places[one] > places[other]) == (word == "bigger")
    assert talk._neighbour(talk.DAYS, "day")(random.Random(3))[1].split()[0] in talk.DAYS


def test_the_same_seed_gives_the_same_conversation(corpus: ModuleType, talk: ModuleType, tmp_path: Path) -> None:
    story = corpus.stories(shelf(tmp_path, []))[0]
    one, other = ([talk.Chat().conversation(random.Random(s), [story]) for s in range(9)] for _ in range(2))
    assert one == other
    assert all(("assistant", STORY) in messages for messages in one)


def test_a_name_that_was_told_comes_back(talk: ModuleType) -> None:
    chat = talk.Chat()
    block = next(block for block in chat.talk if block.turns[0][0] == ("My name is {name}.",))
    (_, told), _, _, (_, answer) = chat.hold(block, random.Random(1))
    assert told.removeprefix("My name is ").rstrip(".") in answer
