"""Tests of corpus/texts.py: documents of every kind of file, packed or not, and refusals that name file and line."""

import gzip
import json
import lzma

import pytest

from llamero.corpus.document import Document
from llamero.corpus.texts import documents, text_files
from llamero.errors import FormatError, ModelNotFound, SettingError

TEXTS = ["One.\n\nTwo lines, naïve.", "Another: 日本語", "Three"]


def zst(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zst}


def texts(*files, **options):
    return [document.text for document in documents(files, **options)]


@pytest.mark.parametrize("packed", PACK)
def test_a_text_is_cut_at_its_separator(tmp_path, packed):
    path = tmp_path / f"stories.txt{packed}"
    path.write_bytes(PACK[packed]("\n<|endoftext|>\n".join(TEXTS).encode()))
    assert list(documents([path])) == [Document(text, str(path)) for text in TEXTS]


@pytest.mark.parametrize("packed", PACK)
def test_json_lines(tmp_path, packed):
    path = tmp_path / f"pages.jsonl{packed}"
    lines = [json.dumps({"id": 1, "text": text}) for text in TEXTS]
    path.write_bytes(PACK[packed](("\n".join(lines) + "\n\n").encode()))
    assert texts(path) == TEXTS
    with pytest.raises(FormatError, match=r"line 1: has no text in the field 'txet': did you mean 'text'"):
        texts(path, field="txet")


def test_separators(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("\ufeffa\n b\n\n  \nc<|endoftext|>\n--\nd", encoding="utf-8")
    assert texts(path) == texts(path, separator=None) == ["a\n b\n\n  \nc<|endoftext|>\n--\nd"]
    assert texts(path, separator="") == ["a\n b", "c<|endoftext|>\n--\nd"]
    assert texts(path, separator="--") == ["a\n b\n\n  \nc<|endoftext|>", "d"]


def test_a_text_without_separators_need_not_fit_memory(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n<|endoftext|>\nfour\nfive")
    assert texts(path, longest=5) == ["one\ntwo", "three", "four", "five"]
    assert texts(path, longest=100) == ["one\ntwo\nthree", "four\nfive"]


def test_blank_documents_are_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("<|endoftext|>\n \n<|endoftext|>\n\nx\n<|endoftext|>\n")
    (tmp_path / "b.jsonl").write_text('{"text": " "}\n{"text": ""}\n{"text": " y "}\n')
    assert texts(tmp_path / "a.txt", tmp_path / "b.jsonl") == ["x", " y "]


def test_folders_are_read_in_order(tmp_path):
    for name in ("b.txt", "a/z.jsonl", "a/b.txt.gz", "a/notes.pdf", ".hidden.txt", "c.txt.bak"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in text_files([tmp_path, tmp_path / "c.txt.bak"])]
    assert names == ["a/b.txt.gz", "a/z.jsonl", "b.txt", "c.txt.bak"]
    with pytest.raises(ModelNotFound, match=r"none\.txt is not there"):
        text_files([tmp_path / "none.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match="has no texts"):
        text_files([tmp_path / "empty"])


def test_progress_is_told_in_bytes_on_the_disk(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt.xz"]
    paths[0].write_text("x\n<|endoftext|>\n" * 1000)
    paths[1].write_bytes(lzma.compress(b"y\n<|endoftext|>\n" * 1000))
    told = []
    list(documents(paths, tell=told.append))
    assert told == sorted(told)
    assert told[-1] == sum(path.stat().st_size for path in paths)


def test_what_is_no_text_is_refused(tmp_path):
    def refused(name, data, match):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FormatError, match=match) as caught:
            texts(tmp_path / name)
        assert name in str(caught.value)

    refused("latin.txt", "ok\ncafé".encode("latin-1"), "line 2: not text in UTF-8")
    for packed in (".gz", ".xz", ".zst"):
        whole = PACK[packed]("\n".join(str(n) for n in range(50000)).encode())
        refused(f"noise.txt{packed}", b"no such thing" * 100, "unpacked")
        if packed != ".zst":
            refused(f"cut.txt{packed}", whole[: len(whole) // 2], "unpacked")
    refused("a.jsonl", b'{"text": "x"}\n{"text": "x"\n', "line 2: not valid JSON")
    refused("b.jsonl", b'["x"]\n', "line 1: expected a JSON object")
    refused("c.jsonl", b'{"text": "\\ud800"}\n', "half a surrogate")
    refused("d.jsonl", b"[" * 100_000, "not valid JSON")
    refused("e.jsonl", b'{"text": 3, "body": "x"}\n', "no text in the field 'text'")
    with pytest.raises(ModelNotFound):
        texts(tmp_path / "none.txt")


def test_zst_needs_its_library(tmp_path, monkeypatch):
    (tmp_path / "a.txt.zst").write_bytes(b"x")
    monkeypatch.setattr("llamero.corpus.texts.import_module", lambda name: exec(f"import no_such_{name}"))
    with pytest.raises(SettingError, match="pip install zstandard"):
        texts(tmp_path / "a.txt.zst")


def test_texts_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("llamero.corpus.texts._LONGEST", 1 << 16)
    (tmp_path / "zeros.txt.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(FormatError, match=r"zeros\.txt\.gz, line 1: more than 65536 bytes"):
        texts(tmp_path / "zeros.txt.gz")
    (tmp_path / "whole.txt").write_text("a line\n" * 20000)
    with pytest.raises(FormatError, match=r"is '---' what is between its documents"):
        texts(tmp_path / "whole.txt", separator="---")
    with pytest.raises(FormatError, match="not cut at all"):
        texts(tmp_path / "whole.txt", separator=None)
    assert len(texts(tmp_path / "whole.txt", separator="a line")) == 0
