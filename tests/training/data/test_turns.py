"""Tests of training/data/turns.py: never a row ahead or behind, exact in the long run, any row found at once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.training.data.turns import Turns


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(1, 300), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_every_part_has_its_share_to_within_a_row(rows, seed):
    turns = Turns(rows, seed)
    parts, before = turns.at(np.arange(2 * turns.period + 7))
    for part, count in enumerate(rows):
        had = np.cumsum(parts == part)
        wanted = np.arange(1, parts.size + 1) * count / turns.period
        assert np.abs(had - wanted).max() < 1
        np.testing.assert_array_equal(before[parts == part], np.arange(had[-1]))


def test_a_row_alone_is_the_same_as_in_sequence():
    turns = Turns([134, 30, 9, 9, 9, 5, 4], 3)
    parts, before = turns.at(np.arange(5000))
    for number in (0, 17, 199, 200, 4999):
        part, rank = turns.at(np.array([number]))
        assert (part[0], rank[0]) == (parts[number], before[number])
    far = 10**15 + 3
    part, rank = turns.at(np.array([far]))
    assert abs(rank[0] - far * turns.rows[part[0]] / 200) < 2


def test_seeds_differ_where_that_is_open():
    orders = {tuple(Turns([5, 5, 5], seed).at(np.arange(15))[0].tolist()) for seed in range(20)}
    assert len(orders) > 3


def test_an_order_never_changes():
    """Runs go on after years: the numbers are part of the format."""
    parts, before = Turns([4, 2, 1], 5).at(np.arange(7, 21))
    assert parts.tolist() == [0, 1, 0, 0, 1, 2, 0, 0, 1, 0, 0, 1, 2, 0]
    assert before.tolist() == [4, 2, 5, 6, 3, 1, 7, 8, 4, 9, 10, 5, 2, 11]
