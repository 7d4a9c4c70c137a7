"""Tests of training/team/layout.py: text to layout and back, and layouts that cannot be."""

import pytest

from llamero.errors import SettingError
from llamero.model.family import by_name
from llamero.training.team.layout import Layout


def test_text_and_back():
    layout = Layout.parse("shard=8, tensor=2")
    assert layout == Layout(shard=8, tensor=2)
    assert Layout.parse(str(layout)) == layout
    assert Layout.parse(str(Layout())) == Layout()
    assert (layout.devices, layout.shares) == (16, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensr=2", "did you mean 'tensor'"),
        ("tensor=two", "as tensor=NUMBER"),
        ("tensor=2,tensor=4", "at most once"),
        ("tensor=0", "at least 1, got 0"),
        ("", "there is no ''"),
    ],
)
def test_text_that_is_none(text, message):
    with pytest.raises(SettingError, match=message):
        Layout.parse(text)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(tensor=16), "does not divide .* the largest below that does: 8"),
        (Layout(context=3), "a multiple of 6, not 8192"),
        (Layout(replicate=3, shard=2), "cannot be dealt evenly to 6 .* take a batch of 147456 tokens"),
    ],
)
def test_layouts_that_do_not_divide(layout, message):
    with pytest.raises(SettingError, match=message):
        layout.check(by_name("llama-3-8b"), context=8192, sequences=16)


def test_a_layout_that_divides():
    Layout(replicate=2, shard=4, context=2, tensor=8).check(by_name("llama-3-8b"), context=8192, sequences=16)
