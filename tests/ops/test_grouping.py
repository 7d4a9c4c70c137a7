"""Tests of ops/grouping.py: every token has a place of its own, in order, and little room is wasted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llamero.ops.grouping import Groups


@given(lengths=st.lists(st.integers(1, 300), max_size=60))
def test_spans_keep_to_rows_of_their_own(lengths):
    groups = Groups.of(lengths)
    rows = np.concatenate(
        [[0], *([length] * count for count, length in groups.shapes)], dtype=np.int64
    ).cumsum()  # where rows begin, and the end
    assert rows[-1] == groups.size
    ends = np.cumsum([0, *lengths])
    taken = []
    for length, first in zip(lengths, ends[:-1].tolist(), strict=True):
        places = groups.places[first : first + length]
        assert places.tolist() == list(range(places[0], places[0] + length))
        row = np.searchsorted(rows, places[0], side="right") - 1
        assert places[0] == rows[row]
        assert places[-1] < rows[row + 1]
        taken.append(int(row))
    assert sorted(taken) == list(range(len(lengths)))


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_gaps_cost_at_most_a_quarter(lengths):
    cost = sum(rows * length**2 for rows, length in Groups.of(lengths).shapes)
    assert cost <= 1.25 * sum(length**2 for length in lengths)


def test_equal_lengths_are_one_group_without_gaps():
    groups = Groups.of([7] * 5)
    assert groups.shapes == ((5, 7),)
    assert groups.places.tolist() == list(range(35))
