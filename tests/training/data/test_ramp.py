"""Tests of training/data/ramp.py: every token once, rows and documents cut where a stage's context is shorter."""

import numpy as np
import pytest

from llamero.errors import SettingError
from llamero.training.data.batches import Batches
from llamero.training.data.ramp import Ramp, Ramped, Stage
from llamero.training.data.tokens import Tokens

CONTEXT = 16


@pytest.fixture
def tokens():
    return Tokens.of(np.arange(5000, dtype=np.uint16), starts=np.arange(0, 5000, 23))


def ramped(tokens, text="0:64@8,150:128,700:256", packing="stream"):
    ramp = Ramp.parse(text, 256, CONTEXT)
    return Ramped(Batches(tokens, context=CONTEXT, sequences=ramp.unit // CONTEXT, seed=3, packing=packing), ramp)


def test_a_ramp_counts_every_token_once():
    ramp = Ramp.parse("0:256@128,1000:512,3K:1024", 1024, 256)
    assert ramp.stages == (Stage(0, 0, 256, 128), Stage(4, 1024, 512, 256), Stage(8, 3072, 1024, 256))
    total = 0
    for step in range(20):
        assert ramp.before(step) == total
        total += ramp.at(step).batch
    assert ramp.unit == 256


def test_batches_grow_and_no_row_comes_twice(tokens):
    source = ramped(tokens)
    assert [source.at(step).inputs.shape for step in (0, 2, 3, 6, 7, 50)] == [
        (8, 8), (8, 8), (8, 16), (8, 16), (16, 16), (16, 16),
    ]  # fmt: skip
    plain = Batches(tokens, context=CONTEXT, sequences=4, seed=3)
    seen = np.concatenate([source.at(step).inputs.ravel() for step in range(12)])
    wanted = np.concatenate([plain.at(step).inputs.ravel() for step in range(seen.size // 64)])
    np.testing.assert_array_equal(seen, wanted)
    for step in (0, 5, 9):
        np.testing.assert_array_equal(source.at(step).targets, source.at(step).inputs + 1)


@pytest.mark.parametrize("packing", ["stream", "masked"])
def test_spans_end_with_rows(tokens, packing):
    batch = ramped(tokens, packing=packing).at(1)
    ends = np.cumsum([span.length for span in batch.spans])
    assert ends[-1] == batch.inputs.size
    assert set(range(8, 65, 8)) <= set(ends.tolist())
    assert all(span.start == 0 and span.length > 0 for span in batch.spans)
    assert [part.inputs.shape for part in batch.split(2)] == [(2, 8)] * 4
    if packing == "masked":  # a document's first token begins a span of its own
        begins = {0, *ends.tolist()}
        assert {place for place, token in enumerate(batch.inputs.ravel().tolist()) if token % 23 == 0} <= begins


def test_documents_are_those_of_the_rows(tokens):
    source = ramped(tokens)
    for step in (1, 9):
        batch = source.at(step)
        ids = np.concatenate([batch.inputs.ravel(), batch.targets.ravel()])
        assert set(source.documents(step)) == {f"tokens:{document}" for document in ids // 23}


def test_the_ramp_belongs_to_the_origin(tokens):
    assert ramped(tokens).origin != ramped(tokens, "0:64,150:128,700:256").origin
    assert ramped(tokens).origin["sequences"] == 16
    with pytest.raises(SettingError, match="units of 64"):
        Ramped(Batches(tokens, context=CONTEXT, sequences=8), Ramp.parse("0:64,150:256", 256, CONTEXT))
