"""Tests of training/data/fit.py: every target has one place, nothing overflows, best fit as by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llamero.training.data.fit import Fit


def packed(lengths, context):
    lengths = np.array(lengths, np.int64)
    return Fit.of(np.cumsum(lengths) - lengths, lengths, context)


def by_hand(sizes, context):
    """Best fit decreasing, a piece at a time; how full each row is."""
    rows = []
    for size in sorted(sizes, reverse=True):
        fitting = [row for row in range(len(rows)) if rows[row] + size <= context]
        if fitting:
            best = max(fitting, key=lambda row: rows[row])
            rows[best] += size
        else:
            rows.append(size)
    return sorted(rows)


@given(lengths=st.lists(st.integers(1, 120), max_size=80), context=st.integers(1, 40))
def test_every_target_once_and_rows_as_full_as_by_hand(lengths, context):
    fit = packed(lengths, context)
    rows = [fit.pieces(row) for row in range(fit.rows)]
    targets = sorted(place for row in rows for start, size in row for place in range(start + 1, start + size + 1))
    ends = np.cumsum([0, *lengths])
    firsts = set(ends.tolist())
    assert targets == [place for place in range(ends[-1]) if place not in firsts]
    assert all(size >= 1 for row in rows for _, size in row)
    pieces = [size for length in lengths for size in [context] * ((length - 1) // context) + [(length - 1) % context]]
    filled = sorted(sum(size for _, size in row) for row in rows)
    assert filled == by_hand([size for size in pieces if size], context)


def test_little_is_left_over():
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(5.3, 0.8, 20000).astype(np.int64) + 1
    fit = packed(lengths, 512)
    assert fit.sizes.sum() == (lengths - 1).sum()
    assert fit.rows * 512 < 1.005 * fit.sizes.sum()
