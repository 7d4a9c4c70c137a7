"""Tests of training/data/joined.py: streams side by side read as one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llamero.training.data.joined import Joined
from llamero.training.data.tokens import Tokens


@given(lengths=st.lists(st.integers(0, 40), max_size=5), data=st.data())
def test_it_reads_as_one_stream(lengths, data):
    streams, starts, ids, marks, at = [], [], [], [], 0
    for number, length in enumerate(lengths):
        own = np.arange(0, length, 7)
        counts = None if number % 2 else np.arange(length) % 3 > 0
        streams.append(Tokens.of(np.arange(at, at + length, dtype=np.uint16), counts, own if length else None))
        starts += (own + at).tolist()
        marks += [True] * length if counts is None else counts.tolist()
        at += length
    ids = np.arange(at)
    joined = Joined(streams)
    assert joined.tokens == at
    if at:
        first = data.draw(st.integers(0, at - 1))
        last = data.draw(st.integers(first + 1, at))
        assert joined.read(first, last).tolist() == ids[first:last].tolist()
        found = joined.marks(first, last)
        assert (found is None and all(marks[first:last])) or found.tolist() == marks[first:last]
        assert joined.borders(first, last).tolist() == [start for start in starts if first <= start < last]
        assert joined.document(first) == np.searchsorted(starts, first, side="right") - 1


def test_its_fingerprint_is_of_all_parts():
    one, other = (Tokens.of(np.arange(size, dtype=np.uint16)) for size in (5, 6))
    found = {Joined(streams).fingerprint for streams in ([one], [other], [one, other], [other, one])}
    assert len(found) == 4
