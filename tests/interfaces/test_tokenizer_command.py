"""Tests of `llamero tokenizer`: what is printed, what is written, and what is refused with which code."""

import pytest

from llamero.interfaces.cli.main import main
from llamero.tokenizer.load import load_tokenizer

TEXT = "The llama ran up the mountain, and the other llamas ran after it. It's 1984! naïve\n" * 20


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["llama", "llama3"])
def test_train_show_and_convert(text, tmp_path, capsys, kind):
    out = tmp_path / "tok"
    assert main(["tokenizer", "train", "--text", str(text), "--kind", kind, "--vocab", "300", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "300 tokens" in said
    assert "tokenizer.json" in said
    assert "bytes a token" in said
    assert main(["tokenizer", "show", str(out), "The llama\x1b\n", "--text", str(text)]) == 0
    said = capsys.readouterr().out
    assert "begin: " in said
    assert "\x1b" not in said
    assert f"{len(load_tokenizer(out).encode('The llama' + chr(27) + chr(10)))} tokens: " in said
    for form, name in (("gguf", "v.gguf"), ("json", "t.json"), ("folder", "again")):
        assert main(["tokenizer", "convert", str(out), "--to", form, "--out", str(tmp_path / name)]) == 0
        assert load_tokenizer(tmp_path / name).encode(TEXT) == load_tokenizer(out).encode(TEXT)
        before = (tmp_path / name).read_bytes() if form != "folder" else b""
        assert main(["tokenizer", "convert", str(out), "--to", form, "--out", str(tmp_path / name)]) == 1
        assert "is there already" in capsys.readouterr().err
        assert form == "folder" or (tmp_path / name).read_bytes() == before
        words = ["tokenizer", "convert", str(out), "--to", form, "--out", str(tmp_path / name), "--overwrite"]
        assert main(words) == 0
    assert main(["lineage", str(tmp_path / "v.gguf")]) == 0
    assert "text.txt" in capsys.readouterr().out


def test_mistakes_end_in_one_line(text, tmp_path, capsys):
    common = ["tokenizer", "train", "--text", str(text), "--out", str(tmp_path / "tok")]
    assert main([*common, "--vocab", "100"]) == 1
    assert "at least 261" in capsys.readouterr().err
    assert main([*common, "--vocab", "99999"]) == 1
    assert "give more text" in capsys.readouterr().err
    assert main([*common, "--vocab", "300", "--kind", "llama4"]) == 1
    assert "did you mean 'llama" in capsys.readouterr().err
    assert main(["tokenizer", "convert", str(tmp_path), "--to", "zip", "--out", "x"]) == 1
    assert "choose from folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["tokenizer"])
    assert caught.value.code == 2
    assert not (tmp_path / "tok").exists()


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["tokenizer", "--help"])
    assert "llamero tokenizer train --text" in capsys.readouterr().out
