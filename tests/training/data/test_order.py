"""Tests of training/data/order.py: a shuffle is a permutation, and moves things about."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llamero.training.data.order import key_of, shuffle


@given(size=st.integers(1, 3000), key=st.lists(st.integers(0, 2**64 - 1), min_size=5, max_size=5))
def test_shuffle_is_a_permutation(size, key):
    shuffled = shuffle(np.arange(size), size, np.array(key, np.uint64))
    assert sorted(shuffled.tolist()) == list(range(size))


def test_shuffle_moves_things_about():
    shuffled = shuffle(np.arange(1000), 1000, np.arange(5, dtype=np.uint64))
    assert abs(np.corrcoef(shuffled, np.arange(1000))[0, 1]) < 0.1
    assert (shuffled == np.arange(1000)).mean() < 0.02


def test_an_order_never_changes():
    """Runs go on after years: the numbers are part of the format."""
    assert shuffle(np.arange(8), 8, key_of("llamero")).tolist() == [0, 1, 2, 7, 5, 6, 3, 4]
