"""Tests of training/data/batches.py and rows.py: orders are pure, whole, shuffled; documents stay by themselves."""

import hashlib

import numpy as np
import pytest
import torch

from llamero.errors import SettingError
from llamero.formats.shards import Shards
from llamero.formats.shards_write import ShardWriter
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.batch import Batch
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.parameters import fresh, weights
from llamero.training.pretrain import NextToken

PACKINGS = ("stream", "masked", "whole")
GOLDEN = [("stream", [47, 15, 55]), ("whole", [36, 57, 20])]


def numbered(count):
    return Tokens.of(np.arange(count, dtype=np.uint32))


@pytest.fixture(scope="module")
def story_lengths():
    return np.random.default_rng(1).integers(2, 70, 60)


@pytest.fixture
def stories(story_lengths):
    """Documents of many lengths, whose ids tell where they stand: 1000 * document + place."""
    parts = [1000 * number + np.arange(length) for number, length in enumerate(story_lengths)]
    starts = np.cumsum(story_lengths) - story_lengths
    return Tokens.of(np.concatenate(parts).astype(np.uint32), starts=starts, name="stories")


def same(one, other):
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("inputs", "targets", "counts"))
    return arrays and one.spans == other.spans


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_step_is_the_same_whatever_was_asked_before(stories, packing):
    one, other = (Batches(stories, context=10, sequences=7, seed=4, packing=packing) for _ in range(2))
    for step in (5, 0, 300):
        other.at(step)
    for step in (300, 2, 5):
        assert same(one.at(step), other.at(step))


def test_an_epoch_holds_every_window_once_and_the_next_is_in_another_order():
    rows = Batches(numbered(1000), context=10, sequences=3, seed=0).rows
    assert rows.count == 99
    first, second = rows.starts(np.arange(99)), rows.starts(np.arange(99, 198))
    for epoch in (first, second):
        np.testing.assert_array_equal(np.diff(np.sort(epoch)), 10)  # side by side, none twice
    assert first != second


def test_an_epoch_may_end_within_a_batch():
    batches = Batches(numbered(100), context=10, sequences=4, seed=0)
    assert batches.rows.count == 9
    starts = np.concatenate([batches.rows.starts(batches.numbers(step)) for step in range(9)])
    assert all(len(set(starts[9 * e : 9 * e + 9].tolist())) == 9 for e in range(4))


@pytest.mark.parametrize("packing", PACKINGS)
def test_rows_do_not_depend_on_how_many_a_step_has(stories, packing):
    small, large = (Batches(stories, context=12, sequences=n, seed=2, packing=packing) for n in (3, 12))
    for step in range(10):
        parts = [small.at(4 * step + part) for part in range(4)]
        whole = large.at(step)
        np.testing.assert_array_equal(np.concatenate([part.inputs for part in parts]), whole.inputs)
        assert tuple(span for part in parts for span in part.spans) == whole.spans


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_any_number_of_ranks_sees_the_same_batch(stories, packing, ranks):
    batch = Batches(stories, context=12, sequences=6, seed=2, packing=packing).at(9)
    shares = [batch.share(rank, ranks) for rank in range(ranks)]
    joined = Batch(
        *(np.concatenate([getattr(share, name) for share in shares]) for name in ("inputs", "targets", "counts")),
        spans=tuple(span for share in shares for span in share.spans),
    )
    assert same(joined, batch)


def test_targets_follow_inputs_and_stay_inside():
    batches = Batches(numbered(345), context=16, sequences=5, seed=9)
    for step in range(20):
        batch = batches.at(step)
        assert batch.inputs.shape == batch.targets.shape == batch.counts.shape == (5, 16)
        np.testing.assert_array_equal(batch.targets, batch.inputs + 1)
        assert batch.targets.max() < 345
        assert batch.counts.dtype == np.float32
        assert (batch.counts == 1).all()
        assert batch.spans == (Span(0, 16),) * 5


def test_masked_windows_are_those_of_the_stream_with_documents_apart(stories):
    plain, masked = (Batches(stories, context=23, sequences=6, seed=1, packing=each) for each in ("stream", "masked"))
    for step in range(30):
        one, other = plain.at(step), masked.at(step)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.targets, other.targets)
        np.testing.assert_array_equal(other.counts > 0, other.targets // 1000 == other.inputs // 1000)
        assert_spans_are_documents(other, 23)


def assert_spans_are_documents(batch, context):
    """Spans fill the rows, and each holds neighbours of one document."""
    at, inputs = 0, batch.inputs.reshape(-1)
    for span in batch.spans:
        ids = inputs[at : at + span.length]
        assert span.start == 0
        assert at // context == (at + span.length - 1) // context
        if batch.counts.reshape(-1)[at]:
            assert (np.diff(ids) == 1).all()
        at += span.length
        if at % context:  # the next in the row is another
            assert inputs[at] // 1000 != ids[-1] // 1000 or inputs[at] == 0
    assert at == inputs.size


def test_whole_documents_are_each_learnt_once_an_epoch(stories, story_lengths):
    batches = Batches(stories, context=32, sequences=1, packing="whole")
    for epoch in range(2):
        learnt = []
        for step in range(epoch * batches.rows.count, (epoch + 1) * batches.rows.count):
            batch = batches.at(step)
            assert_spans_are_documents(batch, 32)
            learnt += batch.targets[batch.counts > 0].tolist()
            pairs = batch.inputs[batch.counts > 0], batch.targets[batch.counts > 0]
            np.testing.assert_array_equal(pairs[0] + 1, pairs[1])
        assert sorted(learnt) == [
            1000 * n + place for n, length in enumerate(story_lengths) for place in range(1, length)
        ]
    used = (story_lengths - 1).sum() / (32 * batches.rows.count)
    assert used > 0.9


@pytest.mark.parametrize("packing", PACKINGS)
def test_documents_are_named(stories, packing):
    batches = Batches(stories, context=23, sequences=5, seed=3, packing=packing)
    for step in range(20):
        batch = batches.at(step)
        counted = batch.counts > 0
        held = {f"stories:{number}" for number in np.unique(batch.inputs[counted] // 1000).tolist()}
        named = batches.documents(step)
        assert len(named) == len(set(named))
        assert held <= set(named)
        assert len(set(named) - held) <= 5  # the next one's first token may be a row's last target


@pytest.mark.parametrize(("packing", "ids"), GOLDEN)
def test_an_order_never_changes(packing, ids):
    """Runs go on after years: the numbers are part of the format."""
    stream = Tokens.of(np.arange(100, dtype=np.uint16), starts=np.array([0, 13, 20, 47, 49, 80]))
    assert Batches(stream, context=8, sequences=3, seed=1, packing=packing).at(5).inputs[:, 0].tolist() == ids


def test_seed_and_data_change_the_order():
    def order(tokens, seed):
        return Batches(tokens, context=10, sequences=9, seed=seed).rows.starts(np.arange(9))

    assert order(numbered(1000), 0) != order(numbered(1000), 1)
    assert order(numbered(1000), 0) != order(Tokens.of(np.zeros(1000, np.uint32)), 0)


@pytest.mark.parametrize("packing", PACKINGS)
def test_counts_follow_their_targets(packing):
    ids = np.arange(400, dtype=np.uint16)
    batches = Batches(Tokens.of(ids, ids % 3 == 0), context=20, sequences=4, packing=packing)
    batch = batches.at(1)
    np.testing.assert_array_equal(batch.counts, (batch.targets % 3 == 0) & (batch.targets > 0))


@pytest.mark.parametrize("packing", PACKINGS)
def test_shards_and_memory_give_the_same_rows(tmp_path, stories, story_lengths, packing):
    marks = np.random.default_rng(0).random(stories.tokens) < 0.7
    ends = np.cumsum(story_lengths)[:-1]
    with ShardWriter(
        tmp_path, vocabulary=10**5, tokenizer=hashlib.sha256(b"").hexdigest(), marked=True, size=300
    ) as writer:
        for ids, marked in zip(np.split(stories.ids, ends), np.split(marks, ends), strict=True):
            writer.add(ids, marked)
        writer.finish()
    shards = Shards.open(tmp_path)
    marked = Tokens.of(stories.ids, marks, stories.starts)
    marked = Tokens(marked.ids, marked.counts, marked.starts, shards.fingerprint, shards.name)
    one, other = (Batches(stream, context=25, sequences=4, seed=5, packing=packing) for stream in (shards, marked))
    for step in range(12):
        assert same(one.at(step), other.at(step))
        assert one.documents(step) == other.documents(step)
    assert one.origin == other.origin


def test_masked_rows_learn_as_their_documents_would_alone(config):
    """Loss and gradients of a masked batch are those of its documents, one at a time."""
    lengths = np.array([9, 30, 4, 17, 40, 2, 25, 33])
    rng = np.random.default_rng(2)
    tokens = Tokens.of(rng.integers(0, 97, lengths.sum()).astype(np.uint16), starts=np.cumsum(lengths) - lengths)
    for packing in ("masked", "whole"):
        batch = Batches(tokens, context=16, sequences=5, packing=packing).at(0)
        together, apart = fresh(config, 0), fresh(config, 0)
        loss = NextToken(TorchOps(), weights(config, together)).accumulate(batch, 9)
        alone, at = 0.0, 0
        for span in batch.spans:
            part = slice(at, at + span.length)
            arrays = (getattr(batch, name).reshape(1, -1)[:, part] for name in ("inputs", "targets", "counts"))
            alone += NextToken(TorchOps(), weights(config, apart)).accumulate(Batch(*arrays, spans=(span,)), 9)
            at += span.length
        assert loss == pytest.approx(alone, rel=1e-6)
        for name in together:
            assert torch.linalg.norm(together[name].grad - apart[name].grad) < 3e-6 * apart[name].grad.norm(), name


def test_the_fingerprint_is_of_content():
    assert numbered(50).fingerprint == numbered(50).fingerprint
    assert numbered(50).fingerprint != numbered(51).fingerprint
    assert numbered(50).fingerprint != Tokens.of(np.arange(50, dtype=np.uint16)).fingerprint
    marks = np.arange(50) > 20
    found = {Tokens.of(numbered(50).ids, each).fingerprint for each in (None, marks, ~marks)}
    found |= {Tokens.of(numbered(50).ids, starts=np.array(each)).fingerprint for each in ([0, 7], [0, 8])}
    assert len(found) == 5


def test_contradictions_are_refused():
    with pytest.raises(SettingError, match="at least 32"):
        Batches(numbered(31), context=16, sequences=1)
    Batches(numbered(32), context=16, sequences=1).at(7)
    with pytest.raises(SettingError, match="sequences"):
        Batches(numbered(100), context=16, sequences=0)
    with pytest.raises(SettingError, match="context"):
        Batches(numbered(100), context=0, sequences=1)
    with pytest.raises(SettingError, match="did you mean 'masked'"):
        Batches(numbered(100), context=16, sequences=1, packing="mask")
    with pytest.raises(SettingError, match="longer than a token"):
        Batches(Tokens.of(np.arange(5, dtype=np.uint8), starts=np.arange(5)), context=4, sequences=1, packing="whole")
    with pytest.raises(SettingError, match="unsigned"):
        Tokens.of(np.arange(9))
    with pytest.raises(SettingError, match="marks"):
        Tokens.of(np.arange(9, dtype=np.uint8), np.ones(8, np.bool_))
    for starts in ([1], [0, 9], [0, 3, 3], [0, 4, 2]):
        with pytest.raises(SettingError, match="one after another"):
            Tokens.of(np.arange(9, dtype=np.uint8), starts=np.array(starts))
