"""Tests of `llamero lineage`, the family tree and the card: a family from text to model, and a hostile one."""

import json
from pathlib import Path

import pytest
import yaml

from llamero.formats.lineage import lineage
from llamero.formats.lineage.check import members
from llamero.formats.lineage.record import Digest, Lineage, Parent, Record
from llamero.interfaces.card import About, card
from llamero.interfaces.cli.main import main
from llamero.interfaces.family_tree import tree, visible

TEXT = "The llama ran up the mountain, and the other llamas ran after it. It's 1984!\n" * 20
NASTY = "\x1b[2J\x07\u202e`rm -rf`\n| <script> ![x](http://a) ---\r{{x}}"


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A declared text, a tokenizer learnt from it, and shards of both."""
    text, tok, shards = tmp_path / "stories.txt", tmp_path / "tok", tmp_path / "shards"
    text.write_text(TEXT)
    for command in (
        f"lineage {text} --declare --licence CC0",
        f"tokenizer train --text {text} --vocab 300 --out {tok}",
        f"tokenize --text {text} --tokenizer {tok} --out {shards} --workers 1",
    ):
        monkeypatch.setattr("sys.argv", ["/usr/bin/llamero", *command.split()])
        assert main(command.split()) == 0
    return tmp_path


def test_the_tree_names_everybody(family, capsys):
    capsys.readouterr()
    assert main(["lineage", str(family / "shards")]) == 0
    said = capsys.readouterr().out
    assert "- text: stories.txt (source), " in said
    assert f"$ llamero tokenizer train --text {family / 'stories.txt'} --vocab 300" in said
    assert "- tokenizer: tok (tokenizer), " in said
    assert "licence: CC0" in said
    assert '"kind": "llama3"' in said or 'kind "llama3"' in said
    assert "its parents stand above" in said
    assert "2 ancestors: 2 unchanged" in said
    assert main(["lineage", str(family / "shards"), "--quick"]) == 0
    assert "2 same size" in capsys.readouterr().out


def test_changes_are_said_and_end_with_1(family, capsys):
    (family / "stories.txt").write_text(TEXT.replace("1984", "1985"))
    assert main(["lineage", str(family / "tok")]) == 1
    assert "CHANGED:" in capsys.readouterr().out
    assert main(["lineage", str(family / "tok"), "--quick"]) == 0
    (family / "stories.txt").unlink()
    assert main(["lineage", str(family / "tok")]) == 0
    assert "MISSING, was at" in capsys.readouterr().out
    (family / "tok" / "tokenizer.json").write_text("{}")
    assert main(["lineage", str(family / "tok")]) == 1
    assert "tokenizer.json has 2 bytes instead of" in capsys.readouterr().out


def test_as_json(family, capsys):
    capsys.readouterr()
    assert main(["lineage", str(family / "shards"), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["record"]["kind"] == "shards"
    assert [member["state"] for member in value["members"]] == ["unchanged"] * 3
    assert value["members"][0]["record"]["licences"] == ["CC0"]


def test_a_card_of_data(family, capsys):
    out = family / "README.md"
    words = ["lineage", str(family / "shards"), "--card", "--licence", "cc0-1.0", "--language", "en"]
    assert main([*words, "--out", str(out)]) == 0
    _, front, body = out.read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["license"], about["language"]) == ("cc0-1.0", ["en"])
    assert "pipeline_tag" not in about
    assert "| CC0 |" in body
    assert "tokenize --text" in body
    assert capsys.readouterr().err == ""


def test_a_card_of_a_model(tiny_gguf_with_lineage, capsys):
    capsys.readouterr()
    assert main(["lineage", str(tiny_gguf_with_lineage), "--card"]) == 0
    _, front, body = capsys.readouterr().out.split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["pipeline_tag"], about["library_name"]) == ("text-generation", "gguf")
    assert "| parameters |" in body
    assert "| 4 layers" in body or "layers of width" in body


@pytest.fixture
def tiny_gguf_with_lineage(tmp_path):
    from llamero.formats.gguf import GGUF
    from llamero.formats.gguf_write import write_gguf
    from llamero.interfaces.models import find_model

    reader = GGUF.open(find_model(None))
    path = tmp_path / "model.gguf"
    born = lineage.compose("model", settings={"steps": 3}, command=["train"])
    tensors = [reader.read(name) for name in reader.tensors]
    write_gguf(path, {**reader.typed_metadata(), **lineage.inside(path, born)}, tensors)
    reader.close()
    return path


def test_what_knows_nothing_is_refused(tmp_path, capsys):
    (tmp_path / "x").write_text("x")
    assert main(["lineage", str(tmp_path / "x")]) == 1
    assert "does not say where it comes from" in capsys.readouterr().err
    assert main(["lineage", str(tmp_path / "nothing")]) == 1
    assert main(["lineage", str(tmp_path / "x"), "--declare"]) == 1
    assert "--licence NOTE" in capsys.readouterr().err
    assert main(["lineage", str(tmp_path / "x"), "--language", "en"]) == 1
    assert "belong to --card" in capsys.readouterr().err
    (tmp_path / "x.lineage.json").write_text('{"lineage": 1')
    assert main(["lineage", str(tmp_path / "x")]) == 1
    assert "not valid JSON" in capsys.readouterr().err


def test_a_made_thing_is_not_declared_a_source(family, capsys):
    assert main(["lineage", str(family / "tok"), "--declare", "--licence", "mine"]) == 1
    assert "says already" in capsys.readouterr().err


def hostile():
    old = Record(kind="source", name=NASTY, made=NASTY, command=(NASTY,), licences=(NASTY,), settings={NASTY: NASTY})
    parent = Parent(role=NASTY, name=NASTY, path=Path("/nowhere/" + NASTY.replace("/", "")), digest=Digest("0" * 64, 1))
    return Record(**{**vars(old), "kind": "model", "versions": {NASTY: NASTY}, "parents": (parent,)})


def test_nothing_hostile_reaches_the_terminal():
    record = hostile()
    lines = list(tree(Path(NASTY), record, [NASTY], list(members(Lineage(record), None))))
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2J" in line for line in lines)
    assert visible("a" * 400) == "a" * 299 + "…"


def test_nothing_hostile_becomes_markup():
    record = hostile()
    text = card(record, list(members(Lineage(record), None)), None, About(NASTY, (NASTY,)))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == NASTY
    prose = [line for line in body.split("\n") if not line.startswith("    ")]
    assert all(line.isprintable() for line in body.split("\n"))
    assert not any("<script>" in line.replace("\\<", "") or "![" in line for line in prose)
    assert sum(line.startswith("# ") for line in prose) == 1
