"""Tests of `llamero tokenize` and `llamero mix`: texts to shards, and what a mixture of them comes to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import llamero
from llamero.formats.shards import Shards
from llamero.interfaces.cli.main import main

TOKENIZER = str(Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf")


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": f"A llama sang {n} songs."}) for n in range(200)))
    return tmp_path / "a.jsonl"


def write(texts, out, *options):
    words = ["tokenize", "--text", texts, "--tokenizer", TOKENIZER, "--out", out, "--field", "body", "--workers", 1]
    return main([str(word) for word in (*words, *options)])


def test_texts_become_shards(texts, tmp_path, capsys):
    assert write(texts, tmp_path / "s", "--hold-out", "0.1", "--shard", "500") == 0
    printed = capsys.readouterr().out
    shards, held = Shards.open(tmp_path / "s"), Shards.open(tmp_path / "s" / "held-out")
    assert shards.documents + held.documents == 200
    assert f"{shards.documents} documents, {shards.tokens:,} tokens" in printed
    assert f"{held.documents} documents" in printed
    assert write(texts, tmp_path / "s", "--hold-out", "0.1", "--shard", "500") == 0
    assert capsys.readouterr().out == printed
    assert write(texts, tmp_path / "s") == 1
    assert "hold_out" in capsys.readouterr().err


def test_mistakes_are_told_in_a_line(texts, tmp_path, capsys):
    assert main(["tokenize", "--text", str(texts), "--tokenizer", TOKENIZER, "--out", str(tmp_path / "x")]) == 1
    error = capsys.readouterr().err
    assert "line 1: has no text in the field 'text': choose from body" in error
    assert error.count("\n") == 1


def test_a_mended_text_goes_into_the_folder_of_the_one_that_failed(texts, tmp_path, capsys):
    whole = texts.read_text()
    texts.write_text(whole + '\n{"body": ')
    assert write(texts, tmp_path / "s") == 1
    assert "line 201: not valid JSON" in capsys.readouterr().err
    texts.write_text(whole)
    assert write(texts, tmp_path / "s") == 0
    assert Shards.open(tmp_path / "s").documents == 200


def test_a_mixture_is_shown_before_it_is_used(texts, tmp_path, capsys):
    for name in ("a", "b"):
        write(texts, tmp_path / name)
    tokens = Shards.open(tmp_path / "a").tokens
    capsys.readouterr()
    assert main(["mix", f"{tmp_path}/a=0.75", f"{tmp_path}/b=0.25", "--tokens", str(4 * tokens), "--verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["a", "75.00%", "3.00"]
    assert lines[2].split()[:3] == ["b", "25.00%", "1.00"]
    assert main(["mix", f"{tmp_path}/a=3x", f"{tmp_path}/b=1x"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_byte_that_changed_by_itself_is_found_when_asked(texts, tmp_path, capsys):
    """As a failing disk changes it: the file's time tells nothing."""
    write(texts, tmp_path / "a")
    words = ["mix", f"{tmp_path}/a=1", "--tokens", "1M", "--verify"]
    assert main(words) == 0
    shard = tmp_path / "a" / "00000.shard"
    time, raw = shard.stat().st_mtime_ns, bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    os.utime(shard, ns=(time, time))
    assert main(words) == 1
    assert "00000.shard: the data has changed" in capsys.readouterr().err


def test_llamas_table_without_its_data(capsys):
    sizes = {"CommonCrawl": ("852.7B", "67%"), "C4": ("198.1B", "15%"), "Github": ("98.44B", "4.5%")}
    sizes |= {"Wikipedia": ("25.71B", "4.5%"), "Books": ("28.25B", "4.5%"), "ArXiv": ("33.02B", "2.5%")}
    sizes |= {"StackExchange": ("27.18B", "2%")}
    assert main(["mix", *(f"{name}:{size}={share}" for name, (size, share) in sizes.items()), "--tokens", "1.4T"]) == 0
    table = {words[0]: words[1:3] for words in map(str.split, capsys.readouterr().out.splitlines()[1:-1])}
    assert table["CommonCrawl"] == ["67.00%", "1.10"]
    assert table["Wikipedia"] == ["4.50%", "2.45"]
    assert table["Books"] == ["4.50%", "2.23"]
    assert table["Github"] == ["4.50%", "0.64"]


def test_sizes_are_for_all_parts_or_none(tmp_path, capsys, texts):
    write(texts, tmp_path / "a")
    capsys.readouterr()
    assert main(["mix", f"{tmp_path}/a=1", "web:3B=1", "--tokens", "3B"]) == 1
    assert "for all or none" in capsys.readouterr().err
    for many in ("many", "1e400"):
        with pytest.raises(SystemExit):
            main(["mix", "web:3B=1", "--tokens", many])
        assert f"'{many}' is no number of tokens" in capsys.readouterr().err
    assert main(["mix", "web:1e400=1", "--tokens", "3B"]) == 1
    assert "'1e400' is no number of tokens" in capsys.readouterr().err


def test_neither_needs_torch():
    """Corpora are made on machines that train nothing."""
    code = (
        "import sys; import llamero.interfaces.cli.tokenize, llamero.interfaces.cli.mix; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
