"""Attacks on token shards: cut and damaged files, lying headers and manifests, ids that no vocabulary has."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamero.errors import FormatError, LlameroError, ModelNotFound
from llamero.formats.shards import Header, Shards, summary
from llamero.formats.shards_write import ShardWriter

LENGTHS = (30, 1, 60, 40, 80, 5)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    with ShardWriter(
        folder, vocabulary=500, tokenizer=hashlib.sha256(b"t").hexdigest(), marked=True, size=80
    ) as writer:
        for length in LENGTHS:
            writer.add(np.arange(length) % 500, np.arange(length) % 2 == 0)
        writer.finish({})
    return folder


def read_all(folder: Path) -> None:
    """Look at everything that a loader would."""
    shards = Shards.open(folder)
    for first in range(0, shards.tokens, 37):
        last = min(first + 37, shards.tokens)
        shards.read(first, last)
        shards.marks(first, last)
        shards.borders(first, last)
        shards.document(first)


def resealed(folder: Path, number: int, change: Any, **facts: Any) -> None:
    """Change a shard's body and make header and manifest agree with it, as an attacker would."""
    path = folder / f"{number:05}.shard"
    header = Header.read(path)
    body = bytearray(path.read_bytes()[128:])
    change(body, header)
    fields = {name: getattr(header, name) for name in Header.__dataclass_fields__} | facts
    path.write_bytes(Header(**(fields | {"digest": hashlib.sha256(body).digest()})).pack() + body)
    manifest = json.loads((folder / "shards.json").read_text())
    headers = [Header.read(folder / f"{each:05}.shard") for each in range(manifest["shards"])]
    (folder / "shards.json").write_text(json.dumps(manifest | summary(headers)))


@pytest.fixture
def bad(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "bad"))


def test_cut_or_grown_files_are_refused(bad: Path, refused: Any) -> None:
    path = bad / "00001.shard"
    data = path.read_bytes()
    for size in (0, 7, 127, 128, 129, len(data) - 1):
        path.write_bytes(data[:size])
        assert "00001.shard" in str(refused(Shards.open, bad)), size
    path.write_bytes(data + b"\0")
    assert "something was added" in str(refused(Shards.open, bad))
    path.unlink()
    assert isinstance(refused(Shards.open, bad), ModelNotFound)


def test_ids_beyond_the_vocabulary_name_their_place(bad: Path, refused: Any) -> None:
    def change(body: bytearray, _header: Header) -> None:
        body[2 * 7 : 2 * 7 + 2] = (500).to_bytes(2, "little")

    resealed(bad, 1, change)
    shards = Shards.open(bad)
    starts = np.cumsum([0, *LENGTHS])
    place = shards.headers[0].tokens + 7
    document = int(np.searchsorted(starts, place, side="right")) - 1
    message = str(refused(shards.read, 0, shards.tokens))
    local = document - shards.headers[0].documents
    assert f"00001.shard: document {local}, token {place - starts[document]} of it (place 7" in message
    assert "id 500 is beyond the vocabulary of 500" in message
    shards.read(0, place)  # the rest is sound
    refused(shards.verify)


@pytest.mark.parametrize("starts", [[0, 0], [1, 2], [0, 10**6], [0, 2**64 - 1], [5, 3]])
def test_lying_indices_are_refused(bad: Path, refused: Any, starts: list[int]) -> None:
    def change(body: bytearray, header: Header) -> None:
        at = header.starts_at - 128
        body[at : at + 16] = np.array(starts, "<u8").tobytes()

    resealed(bad, 0, change)
    assert "begin one after another" in str(refused(read_all, bad))


@pytest.mark.parametrize(
    ("at", "value", "size"),
    [
        (0, 0, 8), (8, 2, 4), (12, 3, 4), (12, 0, 4), (16, 2**63, 8), (16, 0, 8), (24, 2**40, 8), (24, 0, 8),
        (32, 0, 4), (32, 2**20, 4), (36, 2, 4), (36, 0, 4), (104, 1, 4),
    ],
)  # fmt: skip
def test_lying_headers_are_refused(bad: Path, refused: Any, at: int, value: int, size: int) -> None:
    path = bad / "00000.shard"
    data = bytearray(path.read_bytes())
    data[at : at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    assert isinstance(refused(Shards.open, bad), FormatError)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 10**12}, {"shards": -1}, {"shards": 0}, {"shards": True}, {"shards": "3"}, {"shards": 1},
        {"tokens": 5}, {"documents": 5}, {"vocabulary": 501}, {"fingerprint": "0" * 64}, {"tokenizer": "00"},
        {"version": 2}, {"format": "other"}, {"about": 3}, {"marked": False},
    ],
)  # fmt: skip
def test_lying_manifests_are_refused(bad: Path, refused: Any, change: dict[str, Any]) -> None:
    manifest = json.loads((bad / "shards.json").read_text())
    (bad / "shards.json").write_text(json.dumps(manifest | change))
    assert isinstance(refused(Shards.open, bad), FormatError)


def test_a_shard_of_another_set_is_refused(bad: Path, good: Path, refused: Any) -> None:
    shutil.copy(good / "00001.shard", bad / "00000.shard")
    refused(Shards.open, bad)
    resealed(bad, 0, lambda _body, _header: None, vocabulary=400)
    assert "another set" in str(refused(Shards.open, bad))


def test_a_shard_that_changes_while_open_is_refused(bad: Path, good: Path, refused: Any) -> None:
    shards = Shards.open(bad)
    shutil.copy(good / "00001.shard", bad / "00000.shard")
    assert "has changed" in str(refused(shards.read, 0, 5))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutations_are_read_or_refused(good: Path, tmp_path: Path, data: st.DataObject) -> None:
    bad = tmp_path / "mutated"
    if not bad.exists():
        shutil.copytree(good, bad)
    name = data.draw(st.sampled_from(sorted(path.name for path in good.iterdir())))
    raw = bytearray((good / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 300)))] = data.draw(st.integers(0, 255))
    (bad / name).write_bytes(raw)
    with suppress(LlameroError):
        read_all(bad)
    shutil.copy(good / name, bad / name)
