"""Tests of corpus/vocabulary.py: texts on the disk become a tokenizer's folder with its lineage."""

import json
import lzma

import pytest

from llamero.corpus.vocabulary import Lesson, learn_tokenizer
from llamero.errors import FormatError, ModelNotFound, SettingError, TokenizerError
from llamero.formats.lineage import lineage
from llamero.tokenizer.load import load_tokenizer

TEXT = "The llama ran up the mountain, and the other llamas ran after it. It's 1984! " * 20


@pytest.fixture
def texts(tmp_path):
    """The same text in a plain file, in a packed one and in JSON lines."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt.xz").write_bytes(lzma.compress(TEXT.encode()))
    (folder / "c.jsonl").write_text(json.dumps({"text": TEXT}))
    return folder


@pytest.mark.parametrize(("kind", "size"), [("llama", 300), ("llama3", 300)])
def test_texts_become_a_folder_that_loads(texts, tmp_path, kind, size):
    seen = []
    out = tmp_path / "out"
    lesson = Lesson(texts=(texts,), out=out, size=size, kind=kind, specials=("<|tool|>",), licences=("CC0",))
    tokenizer = learn_tokenizer(lesson, lambda what, done, total: seen.append((what, done <= total)))
    again = load_tokenizer(out)
    assert again.vocab_size == size
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert again.special_tokens["<|tool|>"] == size - 1
    assert seen[-1] == ("learning", True)
    assert {what for what, _ in seen} == {"hashing", "reading", "learning"}
    assert all(sound for _, sound in seen)
    found = lineage.read(out)
    assert found is not None
    assert [parent.name for parent in found.record.parents] == ["a.txt", "b.txt.xz", "c.jsonl"]
    assert found.record.settings["size"] == size
    assert found.record.licences == ("CC0",)
    assert "tokenizer.json" in found.record.files


def test_the_same_lesson_gives_the_same_files(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for kind in ("llama", "llama3"):
        one, two = (Lesson(texts=(texts,), out=tmp_path / f"{kind}{i}", size=300, kind=kind) for i in "12")
        learn_tokenizer(one)
        learn_tokenizer(two)
        for path in one.out.iterdir():
            mine, other = path.read_bytes(), (two.out / path.name).read_bytes()
            assert mine == other.replace(f'"{kind}2"'.encode(), f'"{kind}1"'.encode())


def test_a_chat_format_by_name(texts, tmp_path):
    learn_tokenizer(Lesson(texts=(texts,), out=tmp_path / "out", size=300, kind="llama", template="plain"))
    assert "base model" in load_tokenizer(tmp_path / "out").chat_template


def test_llama_3s_reserved_tokens(texts, tmp_path):
    tokenizer = learn_tokenizer(Lesson(texts=(texts,), out=tmp_path / "out", size=530, reserved=True))
    assert len(tokenizer.special_tokens) == 256


def test_a_folder_is_not_overwritten_by_chance(texts, tmp_path):
    out = tmp_path / "out"
    learn_tokenizer(Lesson(texts=(texts,), out=out, size=300, kind="llama"))
    with pytest.raises(SettingError, match="holds a tokenizer already"):
        Lesson(texts=(texts,), out=out, size=300)
    learn_tokenizer(Lesson(texts=(texts,), out=out, size=300, overwrite=True))
    assert not (out / "tokenizer.model").exists()
    found = lineage.read(out)
    assert found is not None
    assert sorted(found.record.files) == ["tokenizer.json", "tokenizer.tiktoken", "tokenizer_config.json"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "lama"}, "did you mean 'llama'"),
        ({"kind": "llama", "reserved": True}, "only the kind llama3"),
        ({"coverage": 0.99}, "only the kind llama asks"),
        ({"template": "llama-4"}, "did you mean 'llama-"),
    ],
)
def test_contradictions_are_refused_before_reading(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        Lesson(texts=(tmp_path / "nothing",), out=tmp_path / "out", size=300, **settings)


def test_bad_texts_leave_nothing_behind(texts, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ModelNotFound):
        learn_tokenizer(Lesson(texts=(tmp_path / "nothing.txt",), out=out, size=300))
    with pytest.raises(TokenizerError, match="give more text"):
        learn_tokenizer(Lesson(texts=(texts,), out=out, size=32000))
    (texts / "d.txt").write_bytes(b"fine\nfine\n caf\xe9")
    for kind in ("llama", "llama3"):
        with pytest.raises(FormatError, match=r"d\.txt, line 3: not text in UTF-8"):
            learn_tokenizer(Lesson(texts=(texts,), out=out, size=300, kind=kind))
    assert not out.exists()
