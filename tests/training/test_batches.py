"""Tests of training/batches.py: the order is pure, whole and shuffled; files are refused with a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.training.batch import Batch
from llamero.training.batches import Batches, Tokens, shuffle


def numbered(count):
    return Tokens.of(np.arange(count, dtype=np.uint32))


@given(size=st.integers(1, 3000), key=st.lists(st.integers(0, 2**64 - 1), min_size=5, max_size=5))
def test_shuffle_is_a_permutation(size, key):
    shuffled = shuffle(np.arange(size), size, np.array(key, np.uint64))
    assert sorted(shuffled.tolist()) == list(range(size))


def test_shuffle_moves_things_about():
    shuffled = shuffle(np.arange(1000), 1000, np.arange(5, dtype=np.uint64))
    assert abs(np.corrcoef(shuffled, np.arange(1000))[0, 1]) < 0.1
    assert (shuffled == np.arange(1000)).mean() < 0.02


def test_a_step_is_the_same_whatever_was_asked_before():
    one, other = (Batches(numbered(2000), context=10, sequences=7, seed=4) for _ in range(2))
    for step in (5, 0, 300):
        other.at(step)
    for step in (300, 2, 5):
        np.testing.assert_array_equal(one.at(step).inputs, other.at(step).inputs)


def test_an_epoch_holds_every_window_once_and_the_next_is_in_another_order():
    batches = Batches(numbered(1000), context=10, sequences=3, seed=0)
    assert batches.windows == 99
    starts = np.concatenate([batches.starts(step) for step in range(66)])  # two epochs
    first, second = starts[:99], starts[99:]
    for epoch in (first, second):
        np.testing.assert_array_equal(np.diff(np.sort(epoch)), 10)  # side by side, none twice
    assert first.tolist() != second.tolist()


def test_an_epoch_may_end_within_a_batch():
    batches = Batches(numbered(100), context=10, sequences=4, seed=0)
    assert batches.windows == 9
    starts = np.concatenate([batches.starts(step) for step in range(9)])
    assert all(len(set(starts[9 * e : 9 * e + 9].tolist())) == 9 for e in range(4))


def test_targets_follow_inputs_and_stay_inside():
    batches = Batches(numbered(345), context=16, sequences=5, seed=9)
    for step in range(20):
        batch = batches.at(step)
        assert batch.inputs.shape == batch.targets.shape == batch.counts.shape == (5, 16)
        np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
        assert batch.targets.max() < 345
        assert batch.counts.dtype == np.float32
        assert (batch.counts == 1).all()


def test_seed_and_data_change_the_order():
    def order(tokens, seed):
        return Batches(tokens, context=10, sequences=9, seed=seed).starts(0).tolist()

    assert order(numbered(1000), 0) != order(numbered(1000), 1)
    assert order(numbered(1000), 0) != order(Tokens.of(np.zeros(1000, np.uint32)), 0)


def test_counts_follow_their_targets():
    ids = np.arange(400, dtype=np.uint16)
    batches = Batches(Tokens.of(ids, ids % 3 == 0), context=20, sequences=4)
    batch = batches.at(1)
    np.testing.assert_array_equal(batch.counts, (batch.targets % 3 == 0).astype(np.float32))


def test_split_keeps_every_row_in_order():
    batch = Batches(numbered(900), context=10, sequences=7).at(0)
    parts = list(batch.split(3))
    assert [len(part.inputs) for part in parts] == [3, 3, 1]
    for name in ("inputs", "targets", "counts"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    assert isinstance(parts[0], Batch)


def test_the_fingerprint_is_of_content():
    assert numbered(50).fingerprint == numbered(50).fingerprint
    assert numbered(50).fingerprint != numbered(51).fingerprint
    assert numbered(50).fingerprint != Tokens.of(np.arange(50, dtype=np.uint16)).fingerprint
    marks = np.arange(50) > 20
    assert Tokens.of(numbered(50).ids, marks).fingerprint != Tokens.of(numbered(50).ids, ~marks).fingerprint


def test_tokens_are_mapped_from_a_file(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(500, dtype=np.uint16))
    tokens = Tokens.open(tmp_path / "tokens.npy")
    assert isinstance(tokens.ids, np.memmap)
    assert tokens.fingerprint == Tokens.of(np.arange(500, dtype=np.uint16)).fingerprint


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(ModelNotFound, match=r"none\.npy"):
        Tokens.open(tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("Once upon a time")
    with pytest.raises(FormatError, match=r"text\.npy"):
        Tokens.open(tmp_path / "text.npy")
    np.save(tmp_path / "floats.npy", np.zeros(9))
    with pytest.raises(FormatError, match="float64"):
        Tokens.open(tmp_path / "floats.npy")
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(FormatError):
        Tokens.open(tmp_path / "objects.npy")
    np.save(tmp_path / "cut.npy", np.arange(5000, dtype=np.uint16))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:3000])
    with pytest.raises(FormatError, match=r"cut\.npy"):
        Tokens.open(tmp_path / "cut.npy")


def test_contradictions_are_refused():
    with pytest.raises(SettingError, match="at least 32"):
        Batches(numbered(31), context=16, sequences=1)
    Batches(numbered(32), context=16, sequences=1).at(7)
    with pytest.raises(SettingError, match="sequences"):
        Batches(numbered(100), context=16, sequences=0)
    with pytest.raises(SettingError, match="unsigned"):
        Tokens.of(np.arange(9))
    with pytest.raises(SettingError, match="marks"):
        Tokens.of(np.arange(9, dtype=np.uint8), np.ones(8, np.bool_))
