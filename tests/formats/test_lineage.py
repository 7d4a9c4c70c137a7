"""Tests of formats/lineage*.py: a family written down, read back, held against the disk, and attacked."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.blocks import F32
from llamero.formats.gguf_write import write_gguf
from llamero.formats.lineage import lineage
from llamero.formats.lineage.check import members, problems
from llamero.formats.lineage.digest import Hasher
from llamero.formats.lineage.parse import from_text
from llamero.formats.lineage.record import Digest, Lineage, Parent, Record, identity, to_text
from llamero.formats.safetensors import write_safetensors
from llamero.formats.tensor import Tensor, TensorInfo

ONE = Tensor(TensorInfo("one", F32, (1,)), np.ones(1, np.float32).view(np.uint8))


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """stories.txt -> tok/ -> model.gguf, which also has the text as a parent."""
    text, tok, model = tmp_path / "stories.txt", tmp_path / "tok", tmp_path / "model.gguf"
    text.write_text("Once upon a time.")
    lineage.record(text, kind="source", licences=["CC0 1.0"], command=["fetch", "stories"])
    tok.mkdir()
    (tok / "tokenizer.json").write_text("{}")
    (tok / "tokenizer.model").write_bytes(b"\x00\x01")
    lineage.record(tok, kind="tokenizer", parents=[("text", text)], settings={"vocab": 300}, command=["learn"])
    born = lineage.compose("model", parents=[("tokenizer", tok), ("text", text)], command=["train", "tiny"])
    write_gguf(model, lineage.inside(model, born), [ONE])
    return model


def states(path: Path) -> list[tuple[int, str, str]]:
    found = lineage.read(path)
    assert found is not None
    return [(member.depth, member.parent.name, member.state) for member in members(found, Hasher())]


def test_a_file_tells_its_whole_family(family: Path) -> None:
    found = lineage.read(family)
    assert found is not None
    assert (found.record.kind, found.record.name, found.record.command) == ("model", "model.gguf", ("train", "tiny"))
    assert {"llamero", "python", "platform"} <= found.record.versions.keys()
    assert sorted(record.kind for record in found.ancestors.values()) == ["source", "tokenizer"]
    assert states(family) == [(1, "tok", "unchanged"), (2, "stories.txt", "unchanged"), (1, "stories.txt", "unchanged")]


def test_it_moves_with_its_family(family: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("elsewhere") / "house"
    family.parent.rename(home)
    assert {state for _, _, state in states(home / "model.gguf")} == {"unchanged"}


def test_what_is_gone_or_changed_is_said(family: Path) -> None:
    (family.parent / "tok" / "tokenizer.model").write_bytes(b"\x00\x02")
    assert (1, "tok", "changed") in states(family)
    found = lineage.read(family)
    assert found is not None
    (changed,) = [member for member in members(found, Hasher()) if member.state == "changed"]
    assert "tokenizer.model is now" in changed.detail
    assert [member.state for member in members(found, None)] == ["same size"] * 3
    (family.parent / "stories.txt").unlink()
    assert (1, "stories.txt", "missing") in states(family)
    (family.parent / "tok" / "tokenizer.json").unlink()
    assert any("not there" in member.detail for member in members(found, None))


def test_an_artefact_knows_its_own_files(family: Path) -> None:
    tok = family.parent / "tok"
    found = lineage.read(tok / "tokenizer.model")  # a file stands for the folder that lists it
    assert found == lineage.read(tok)
    assert found is not None
    assert problems(tok, found.record, Hasher()) == []
    (tok / "README.md").write_text("what came later does not count")
    assert problems(tok, found.record, Hasher()) == []
    assert (1, "tok", "unchanged") in states(family)
    (tok / "tokenizer.model").write_bytes(b"longer than it was")
    assert problems(tok, found.record, Hasher()) == ["tokenizer.model has 18 bytes instead of 2"]
    beside = lineage.read(family.parent / "stories.txt")
    assert beside is not None
    assert problems(family.parent / "stories.txt", beside.record, Hasher()) == []


def test_safetensors_carry_it_and_strangers_have_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    born = lineage.compose("model", settings={"rate": math.inf, "place": tmp_path, "sizes": (1, 2)})
    write_safetensors(path, [ONE], lineage.inside(path, born))
    found = lineage.read(path)
    assert found is not None
    assert found.record.settings == {"rate": "inf", "place": str(tmp_path), "sizes": [1, 2]}
    write_safetensors(tmp_path / "other.safetensors", [ONE], {})
    write_gguf(tmp_path / "other.gguf", {}, [ONE])
    (tmp_path / "other.txt").write_text("x")
    for name in ("other.safetensors", "other.gguf", "other.txt", "."):
        assert lineage.read(tmp_path / name) is None
    with pytest.raises(ModelNotFound):
        lineage.read(tmp_path / "nothing")


def test_a_living_folder_lists_no_files(tmp_path: Path) -> None:
    lineage.record(tmp_path, kind="run", living=True)
    (tmp_path / "log.jsonl").write_text("{}\n")
    found = lineage.read(tmp_path)
    assert found is not None
    assert found.record.files == {}
    assert problems(tmp_path, found.record, Hasher()) == []


def test_writing_again_lists_the_files_that_are_there_now(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    lineage.record(tmp_path, kind="shards")
    (tmp_path / "b").write_text("b")
    lineage.record(tmp_path, kind="shards")
    found = lineage.read(tmp_path)
    assert found is not None
    assert sorted(found.record.files) == ["a", "b"]


def test_a_folder_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    lineage.check_free(tmp_path / "nowhere", "run")
    lineage.check_free(tmp_path, "run")
    lineage.record(tmp_path, kind="run", living=True)
    lineage.check_free(tmp_path, "run")
    with pytest.raises(SettingError, match="holds a lineage of kind 'run', which would be lost"):
        lineage.check_free(tmp_path, "shards")
    (tmp_path / "lineage.json").write_text("{}")  # no lineage that could be lost
    lineage.check_free(tmp_path, "shards")


def test_large_parents_are_taken_at_their_word_unless_they_look_touched(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "a").write_text("aa")
    lineage.record(shards, kind="shards")
    before = lineage.told(shards)
    assert before == lineage.digest(shards, Hasher())
    (shards / "a").write_text("ab")
    os.utime(shards / "a", ns=(0, 0))
    assert lineage.told(shards) == before  # which `members` finds out
    os.utime(shards / "a")
    assert lineage.told(shards) is None
    (shards / "a").write_text("abc")
    os.utime(shards / "a", ns=(0, 0))
    assert lineage.told(shards) is None
    (shards / "a").unlink()
    assert lineage.told(shards) is None
    with pytest.raises(ModelNotFound):
        lineage.compose("model", parents=[("shards", shards)])


def test_a_copy_of_its_parent_is_no_cycle(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).write_text("the same text")
    lineage.record(tmp_path / "first", kind="source")
    lineage.record(tmp_path / "second", kind="corpus", parents=[("text", tmp_path / "first")])
    lineage.record(tmp_path / "third", kind="corpus", parents=[("text", tmp_path / "second")])
    assert states(tmp_path / "third") == [(1, "second", "unchanged"), (2, "first", "unchanged")]


def test_many_parents_of_a_role_become_one(tmp_path: Path) -> None:
    for i in range(1030):
        (tmp_path / f"{i:04}").write_text(str(i))
    born = lineage.compose("corpus", parents=[("text", path) for path in sorted(tmp_path.iterdir())])
    (parent,) = born.record.parents
    assert parent.name == "1030 files, from 0000 to 1029"
    assert [member.state for member in members(born, Hasher())] == ["unplaced"]


def test_absurd_wishes_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="is not there"):
        lineage.compose("model", parents=[("text", tmp_path / "nothing")])
    with pytest.raises(ModelNotFound, match="empty"):
        lineage.compose("model", parents=[("text", tmp_path)])
    with pytest.raises(SettingError, match="one short word"):
        lineage.compose("A Model")
    with pytest.raises(SettingError, match="65536 characters"):
        lineage.compose("model", name="x" * 70000)


def test_the_time_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert lineage.compose("model").record.made == "1970-01-01T00:00:00Z"


texts = st.text(max_size=20)
digests = st.builds(Digest, st.binary(min_size=32, max_size=32).map(bytes.hex), st.integers(0, 1 << 40))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
records = st.builds(
    Record,
    kind=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    name=texts,
    made=texts,
    command=st.lists(texts, max_size=3).map(tuple),
    settings=st.dictionaries(texts, values, max_size=3),
    versions=st.dictionaries(texts, texts, max_size=2),
    licences=st.lists(texts, max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=60)
@given(records, records, texts, digests)
def test_any_family_reads_back(child: Record, older: Record, role: str, digest: Digest) -> None:
    parent = Parent(role=role, name="n", path=Path("/a/b"), digest=digest, record=identity(older))
    child = Record(**{**vars(child), "parents": (parent,)})
    family = Lineage(child, {identity(older): older})
    assert from_text(to_text(family, Path("/a/c")).encode(), "x", Path("/a/c")) == family


def attacked(change) -> bytes:
    older = Record(kind="source", name="old", made="")
    parent = Parent(role="text", name="old", path=Path("/p"), digest=Digest("0" * 64, 3), record=identity(older))
    root = json.loads(to_text(Lineage(Record(kind="model", name="m", made="", parents=(parent,)), {}), Path("/")))
    root["ancestors"][identity(older)] = json.loads(to_text(Lineage(older), Path("/")))["record"]
    change(root)
    return json.dumps(root).encode()


def old(root: dict) -> dict:
    return next(iter(root["ancestors"].values()))


ATTACKS = {
    "another version": (lambda root: root.update(lineage=2), "version 2"),
    "unknown key": (lambda root: root["record"].update(licenses=[]), "did you mean 'licences'"),
    "missing key": (lambda root: root["record"].pop("made"), "'made' is missing"),
    "altered ancestor": (lambda root: old(root).update(name="gold"), "altered"),
    "own parent": (
        lambda root: old(root).update(parents=[root["record"]["parents"][0]]),
        "altered",
    ),
    "bad hash": (lambda root: root["record"]["parents"][0].update(sha256="0" * 63), "SHA-256"),
    "bad size": (lambda root: root["record"]["parents"][0].update(bytes=-1), "whole number"),
    "bool for a size": (lambda root: root["record"]["parents"][0].update(bytes=True), "whole number"),
    "zero in a path": (lambda root: root["record"]["parents"][0].update(path="a\0b"), "zero byte"),
    "file outside": (lambda root: root["record"].update(files={"../x": {}}), "inside the folder"),
    "absolute file": (lambda root: root["record"].update(files={"/etc/passwd": {}}), "inside the folder"),
    "long text": (lambda root: root["record"].update(name="x" * 70000), "65536 characters"),
    "number for a text": (lambda root: root["record"].update(command=[3]), "must be a text"),
    "many parents": (lambda root: root["record"].update(parents=[{}] * 2000), "at most 1024"),
    "parent is no object": (lambda root: root["record"].update(parents=[3]), "missing"),
    "record is no object": (lambda root: root.update(record=[]), "must be an object"),
    "kind": (lambda root: root["record"].update(kind="\x1b[2J"), "one short word"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    change, message = ATTACKS[name]
    assert from_text(attacked(dict), "x", Path("/")) is not None
    with pytest.raises(FormatError, match=message):
        from_text(attacked(change), "x", Path("/"))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}", b"\xff", b'{"a":' * 100000, b" " * (1 << 24)])
def test_broken_json(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        from_text(raw, "x", Path("/"))
    (tmp_path / "lineage.json").write_bytes(raw)
    with pytest.raises(FormatError, match=r"lineage\.json"):
        lineage.read(tmp_path)


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/proc/kmsg", "../../../.."])
def test_a_path_made_up_by_a_stranger_is_not_read_without_end(path: str) -> None:
    parent = Parent(role="text", name="n", path=Path(os.path.normpath(path)), digest=Digest("0" * 64, 0))
    found = list(members(Lineage(Record(kind="model", name="", made="", parents=(parent,))), Hasher()))
    assert found[0].state in ("changed", "missing")


def test_files_named_without_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_text("x")
    born = lineage.compose("corpus", parents=[("text", tmp_path / name)])
    assert "\\udce9" in to_text(born, tmp_path)
    lineage.record(tmp_path, kind="corpus")
    assert lineage.read(tmp_path) is not None


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["/env/lib/llamero/__main__.py", "train"], ("llamero", "train")),
        (["/env/bin/llamero", "train"], ("llamero", "train")),
        (["raise.py", "1"], ("python", "raise.py", "1")),
        (["-c"], ("python", "-c", "...")),
    ],
)
def test_the_own_command(monkeypatch, words, command):
    monkeypatch.setattr("sys.argv", words)
    assert lineage.compose("model").record.command == command
