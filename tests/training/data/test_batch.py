"""Tests of training/data/batch.py: rows keep their documents however a batch is divided."""

import numpy as np
import pytest

from llamero.errors import SettingError
from llamero.ops.protocol import Span
from llamero.training.data.batch import Batch

SPANS = [Span(0, 3), Span(0, 5), Span(0, 8), Span(0, 1), Span(0, 7), Span(0, 8)]


def batch():
    windows = np.arange(36).reshape(4, 9)
    counts = (windows[:, 1:] % 5 > 0).astype(np.float32)
    return Batch.of(windows, counts, SPANS)


def joined(parts):
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in ("inputs", "targets", "counts")]
    return Batch(*arrays, tuple(span for part in parts for span in part.spans))


def same(one, other):
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("inputs", "targets", "counts"))
    return arrays and one.spans == other.spans


def test_without_spans_a_row_is_one_document():
    plain = Batch.of(np.arange(12).reshape(2, 6))
    assert plain.spans == (Span(0, 5), Span(0, 5))
    assert plain.inputs.tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10]]
    assert plain.targets.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11]]
    assert (plain.counts == 1).all()


@pytest.mark.parametrize("sequences", [1, 2, 3, 4, 9])
def test_micro_batches_are_the_batch(sequences):
    parts = list(batch().split(sequences))
    assert same(joined(parts), batch())
    for part in parts:
        assert sum(span.length for span in part.spans) == part.inputs.size


@pytest.mark.parametrize("size", [1, 2, 4])
def test_shares_of_ranks_are_the_batch(size):
    parts = [batch().share(rank, size) for rank in range(size)]
    assert {len(part.inputs) for part in parts} == {4 // size}
    assert same(joined(parts), batch())


def test_uneven_shares_are_refused():
    with pytest.raises(SettingError, match="multiple of 3"):
        batch().share(0, 3)
    with pytest.raises(SettingError, match="rank 2"):
        batch().share(2, 2)
