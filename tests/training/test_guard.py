"""Tests of training/guard.py: what is skipped, what is not, and that its memory is all in its state."""

import json
import math
import random

import pytest

from llamero.errors import FormatError, SettingError
from llamero.training.guard import Guard, Limits


def calm(steps, seed=0):
    """Losses that fall and norms as heavy-tailed as real ones are."""
    rng = random.Random(seed)
    return [(2 + 4 * math.exp(-i / 100) + rng.gauss(0, 0.05), rng.lognormvariate(0, 0.4)) for i in range(steps)]


def test_calm_steps_pass():
    guard = Guard(Limits())
    assert [guard.judge(*step) for step in calm(2000)] == [""] * 2000


@pytest.mark.parametrize(
    ("loss", "norm", "word"),
    [(3.5, 1.0, "loss 3.5 is"), (2.0, 30.0, "gradient norm 30 is 30"), (math.nan, 1.0, "nan"), (2.0, math.inf, "inf")],
)
def test_a_spike_is_named(loss, norm, word):
    guard = Guard(Limits())
    for step in calm(500):
        guard.judge(*step)
    assert word in guard.judge(loss, norm)
    assert guard.skips == 1
    assert guard.judge(2.0, 1.0) == ""
    assert guard.skips == 0


def test_spikes_do_not_hide_each_other():
    guard = Guard(Limits(patience=1000))
    for step in calm(500):
        guard.judge(*step)
    assert all(guard.judge(5.0 + i, 1.0) for i in range(20))
    assert guard.skips == 20


def test_a_new_level_is_believed_in_the_end():
    guard = Guard(Limits(window=64))
    for _ in range(64):
        guard.judge(2.0, 1.0)
    reasons = [guard.judge(4.0, 1.0) for _ in range(64)]
    assert reasons[0]
    assert reasons[-1] == ""


def test_gradients_that_stay_large_are_believed_soon():
    guard = Guard(Limits())
    for step in calm(500):
        guard.judge(*step)
    reasons = [guard.judge(2.0, 20.0) for _ in range(100)]
    assert all("gradient norm" in reason for reason in reasons[:3])
    assert reasons[3] == ""
    assert sum(map(bool, reasons)) <= 3 * 16  # of four steps one learns, until the median has moved
    assert reasons[64:] == [""] * 36


def test_without_limits_only_what_is_not_finite_is_skipped():
    guard = Guard(Limits(spread=0, surge=0))
    for step in calm(300):
        guard.judge(*step)
    assert guard.judge(1e6, 1e6) == ""
    assert guard.judge(math.inf, 1.0)


def test_its_state_is_all_it_knows():
    steps = calm(400)
    steps[150] = (30.0, 1.0)
    steps[300] = (2.0, 99.0)
    steps[151] = (math.nan, 1.0)
    straight = Guard(Limits())
    wanted = [straight.judge(*step) for step in steps]
    guard, found = Guard(Limits()), []
    for step in steps:
        again = Guard(Limits())
        again.restore(json.loads(json.dumps(guard.state)))
        found.append(again.judge(*step))
        guard = again
    assert found == wanted
    assert [i for i, reason in enumerate(wanted) if reason] == [150, 151, 300]


def test_broken_states_and_absurd_limits_are_refused():
    with pytest.raises(FormatError, match="memory"):
        Guard(Limits()).restore([[1.0], [2.0]])
    with pytest.raises(FormatError, match="memory"):
        Guard(Limits()).restore([[1.0], ["x"], [2.0]])
    for wrong in ({"spread": -1.0}, {"spread": math.nan}, {"surge": -1.0}, {"window": 7}, {"patience": 0}):
        with pytest.raises(SettingError, match="guard"):
            Limits(**wrong)
