"""Tests of training/parameters.py: fresh values, given values, and the way back."""

import dataclasses

import numpy as np
import pytest

from llamero.errors import WeightsError
from llamero.training.parameters import arrays, fresh, given, weights


def test_fresh_parameters_are_decided_by_seed_and_name(config):
    one, same, other = fresh(config, 5), fresh(config, 5), fresh(config, 6)
    assert one.keys() == config.shapes().keys()
    for name in one:
        assert (one[name] == same[name]).all()
        if one[name].ndim > 1:
            assert (one[name] != other[name]).any()
    deeper = fresh(dataclasses.replace(config, layers=3), 5)
    assert (deeper["layers.0.wq"] == one["layers.0.wq"]).all()
    assert (one["layers.0.w1"] != one["layers.0.w3"]).any()


def test_fresh_parameters_have_their_spread(config):
    wide = dataclasses.replace(config, vocab=4000, layers=8, ffn_dim=1000)
    parameters = fresh(wide, 0)
    assert parameters["embedding"].std().item() == pytest.approx(0.02, rel=0.02)
    assert parameters["layers.3.w1"].std().item() == pytest.approx(0.02, rel=0.02)
    assert parameters["layers.3.w2"].std().item() == pytest.approx(0.02 / 4, rel=0.02)
    assert (parameters["layers.3.ffn_norm"] == 1).all()


def test_values_go_in_and_come_out(config):
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in config.shapes().items()}
    back = arrays(given(config, values))
    assert back.keys() == values.keys()
    for name in values:
        np.testing.assert_array_equal(back[name], values[name])


def test_values_of_another_shape_are_refused(config):
    values = arrays(fresh(config, 0))
    with pytest.raises(WeightsError, match=r"layers\.1\.wk.*nothing"):
        given(config, {name: value for name, value in values.items() if name != "layers.1.wk"})
    with pytest.raises(WeightsError, match=r"norm: .*\(32,\), found \(31,\)"):
        given(config, values | {"norm": np.ones(31, np.float32)})


def test_arrays_are_a_copy(config):
    parameters = fresh(config, 0)
    before = arrays(parameters)
    parameters["norm"].data.zero_()
    assert (before["norm"] == 1).all()


def test_a_tied_output_is_the_embedding(config):
    parameters = fresh(config, 0)
    assembled = weights(config, parameters)
    assert (assembled.output is parameters["embedding"]) == config.tied
