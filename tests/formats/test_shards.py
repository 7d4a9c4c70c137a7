"""Tests of formats/shards.py and shards_write.py: what is written is read, over borders of shards, and after a stop."""

import hashlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.formats.shards import Shards
from llamero.formats.shards_write import ShardWriter

TOKENIZER = hashlib.sha256(b"a tokenizer").hexdigest()


def documents(count=40, vocabulary=1000, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, rng.integers(1, 60)) for _ in range(count)]


def write(folder, texts, marks=None, **options):
    settings = {"vocabulary": 1000, "tokenizer": TOKENIZER, "marked": marks is not None, "size": 100} | options
    with ShardWriter(folder, **settings) as writer:
        for number, ids in enumerate(texts):
            writer.add(ids, None if marks is None else marks[number])
        return writer.finish({"made": "by a test"})


@pytest.mark.parametrize(("vocabulary", "width"), [(1000, 2), (65536, 2), (65537, 4), (128256, 4)])
def test_what_is_written_is_read(tmp_path, vocabulary, width):
    texts = documents(vocabulary=vocabulary)
    texts[3][0] = vocabulary - 1
    told = write(tmp_path, texts, vocabulary=vocabulary)
    shards = Shards.open(tmp_path)
    stream = np.concatenate(texts)
    assert (shards.tokens, shards.documents) == (stream.size, len(texts)) == (told["tokens"], told["documents"])
    assert (shards.vocabulary, shards.tokenizer, shards.marked) == (vocabulary, TOKENIZER, False)
    assert shards.about == {"made": "by a test"}
    assert {header.width for header in shards.headers} == {width}
    assert len(shards.headers) > 5
    assert all(header.tokens >= 100 for header in shards.headers[:-1])
    np.testing.assert_array_equal(shards.read(0, stream.size), stream)
    assert shards.marks(0, stream.size) is None
    shards.verify()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(ends=st.tuples(st.integers(0, 999), st.integers(0, 999)))
def test_any_stretch_of_the_stream(tmp_path, ends):
    texts = documents()
    stream, starts = np.concatenate(texts), np.cumsum([0, *map(len, texts)])[:-1]
    rng = np.random.default_rng(1)
    marks = [rng.random(len(text)) < 0.5 for text in texts]
    if not (tmp_path / "shards.json").exists():
        write(tmp_path, texts, marks)
    shards = Shards.open(tmp_path)
    first, last = sorted(end % stream.size for end in ends)
    last += 1
    np.testing.assert_array_equal(shards.read(first, last), stream[first:last])
    np.testing.assert_array_equal(shards.marks(first, last), np.concatenate(marks)[first:last])
    assert shards.borders(first, last).tolist() == [start for start in starts if first <= start < last]
    assert shards.document(first) == np.searchsorted(starts, first, side="right") - 1


def test_a_read_within_a_shard_is_a_view(tmp_path):
    write(tmp_path, documents(), size=10**6)
    ids = Shards.open(tmp_path).read(5, 90)
    assert ids.base is not None
    assert not ids.flags.writeable


def test_the_fingerprint_is_of_the_content(tmp_path):
    texts = documents()
    other = [*texts[:-1], texts[-1][::-1]]
    marks = [np.ones(len(text), np.bool_) for text in texts]
    found = [write(tmp_path / "a", texts)["fingerprint"], write(tmp_path / "b", texts)["fingerprint"]]
    found += [write(tmp_path / "c", other)["fingerprint"], write(tmp_path / "d", texts, marks)["fingerprint"]]
    found += [write(tmp_path / "e", texts, tokenizer=hashlib.sha256(b"b").hexdigest())["fingerprint"]]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert Shards.open(tmp_path / "a").fingerprint == found[0]


def test_a_writer_goes_on_after_whole_shards(tmp_path):
    texts = documents()
    whole = write(tmp_path / "whole", texts)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", stopped(texts[:24]))
    assert {path.suffix for path in (tmp_path / "cut").iterdir()} == {".shard"}
    (tmp_path / "cut" / ".00099.shard.1.partial").touch()  # as a killed writer leaves it
    with pytest.raises(ModelNotFound, match=r"shards\.json"):
        Shards.open(tmp_path / "cut")
    with ShardWriter(tmp_path / "cut", vocabulary=1000, tokenizer=TOKENIZER, size=100) as writer:
        assert 0 < writer.documents < 24
        for ids in texts[writer.documents :]:
            writer.add(ids)
        assert writer.finish({"made": "by a test"}) == whole
    assert not list((tmp_path / "cut").glob(".*"))


def stopped(texts):
    yield from texts
    raise KeyboardInterrupt


def test_a_writer_refuses_what_it_cannot_keep(tmp_path):
    def writer(**options):
        return ShardWriter(tmp_path / "w", **({"vocabulary": 1000, "tokenizer": TOKENIZER} | options))

    for ids in (np.array([], np.int64), np.array([1000]), np.array([-1]), np.zeros((2, 2), np.int64)):
        with writer() as one, pytest.raises(SettingError, match="at least one token"):
            one.add(ids)
    with writer() as one, pytest.raises(SettingError, match="no marks"):
        one.add(np.array([1]), np.array([True]))
    with writer(marked=True) as one, pytest.raises(SettingError, match="each token"):
        one.add(np.array([1, 2]), np.array([True]))
    with writer() as one, pytest.raises(SettingError, match="no documents"):
        one.finish()
    with pytest.raises(SettingError, match="vocabulary"):
        writer(vocabulary=0)
    write(tmp_path / "w", documents())
    with pytest.raises(SettingError, match="already"):
        writer()
    (tmp_path / "w" / "shards.json").unlink()
    with pytest.raises(SettingError, match="another vocabulary"):
        writer(vocabulary=999)


def test_verifying_hashes_what_changed_and_only_that(tmp_path, monkeypatch):
    write(tmp_path, documents())
    hashed = []
    told = []
    verify = Shards._opened
    monkeypatch.setattr(Shards, "_opened", lambda self, number: hashed.append(number) or verify(self, number))
    Shards.open(tmp_path).verify(lambda done, total: told.append((done, total)))
    assert hashed == list(range(len(Shards.open(tmp_path).headers)))
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in tmp_path.glob("*.shard"))
    hashed.clear()
    Shards.open(tmp_path).verify()
    assert hashed == []
    path = tmp_path / "00002.shard"
    data = bytearray(path.read_bytes())
    data[130] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    shards = Shards.open(tmp_path)  # sizes and headers are as they were
    with pytest.raises(FormatError, match=r"00002\.shard: the data has changed: its hash is [0-9a-f]{64}, written was"):
        shards.verify()
