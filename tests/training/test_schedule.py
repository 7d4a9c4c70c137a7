"""Tests of training/schedule.py against values worked out by hand."""

import math

import pytest

from llamero.errors import SettingError
from llamero.training.schedule import Cosine, Plateau, linear


def test_cosine_of_the_paper():
    # LLaMA 7B: 3e-4, 2000 steps of warm-up, down to 10 %
    schedule = Cosine(3e-4, steps=250_000, warmup=2000)
    assert schedule.at(0) == pytest.approx(3e-4 / 2000)
    assert schedule.at(999) == pytest.approx(1.5e-4)
    assert schedule.at(1999) == schedule.at(2000) == pytest.approx(3e-4)
    assert schedule.at(126_000) == pytest.approx(3e-4 * 0.55)  # half way
    assert schedule.at(64_000) == pytest.approx(3e-4 * (0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))))
    assert schedule.at(250_000) == schedule.at(999_999) == pytest.approx(3e-5)


def test_plateau():
    schedule = Plateau(1e-3, steps=100, warmup=10, decay=20)
    assert schedule.at(4) == pytest.approx(5e-4)
    assert schedule.at(10) == schedule.at(79) == schedule.at(80) == pytest.approx(1e-3)
    assert schedule.at(90) == pytest.approx(5e-4)
    assert schedule.at(100) == schedule.at(500) == 0
    assert Plateau(1.0, steps=10, warmup=0, decay=10, floor=0.5).at(5) == pytest.approx(0.75)


def test_a_line():
    schedule = linear(1e-3, steps=110, warmup=10, floor=0.1)
    assert schedule.at(9) == schedule.at(10) == pytest.approx(1e-3)
    assert schedule.at(60) == pytest.approx(5.5e-4)
    assert schedule.at(110) == pytest.approx(1e-4)


def test_no_warmup_and_no_descent():
    assert Cosine(1.0, steps=10, warmup=0).at(0) == 1.0
    assert Plateau(1.0, steps=10, warmup=0, decay=0).at(9) == 1.0


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"peak": 0.0}, "peak"),
        ({"peak": math.nan}, "peak"),
        ({"warmup": 11}, "warm-up"),
        ({"warmup": -1}, "warm-up"),
        ({"floor": 1.5}, "floor"),
    ],
)
def test_contradictions_are_refused(wrong, word):
    with pytest.raises(SettingError, match=word):
        Cosine(**({"peak": 1.0, "steps": 10, "warmup": 2} | wrong))


def test_a_descent_that_does_not_fit_is_refused():
    with pytest.raises(SettingError, match="do not fit"):
        Plateau(1.0, steps=10, warmup=5, decay=6)
