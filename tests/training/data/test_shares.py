"""Tests of training/data/shares.py: LLaMA's Table 1 from either side, mixed wishes, and what contradicts itself."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import SettingError
from llamero.training.data.shares import Wish, in_rows, solve

TOTAL = 1_400_000_000_000
# LLaMA, Table 1: proportion, epochs, size on the disk in GB
TABLE = {
    "CommonCrawl": ("67.0%", "1.10x", 3300),
    "C4": ("15.0%", "1.06x", 783),
    "Github": ("4.5%", "0.64x", 328),
    "Wikipedia": ("4.5%", "2.45x", 83),
    "Books": ("4.5%", "2.23x", 85),
    "ArXiv": ("2.5%", "1.06x", 92),
    "StackExchange": ("2.0%", "1.03x", 78),
}


def tokens_of_table():
    """How many tokens each source has: the paper says it through proportion and epochs alone."""
    return {
        name: round(TOTAL * Wish.parse(proportion).amount / Wish.parse(epochs).amount)
        for name, (proportion, epochs, _) in TABLE.items()
    }


def test_epochs_of_table_1_follow_from_its_proportions():
    sizes = tokens_of_table()
    shares = solve(sizes, {name: Wish.parse(row[0]) for name, row in TABLE.items()}, TOTAL)
    assert {share.name: f"{float(share.epochs):.2f}x" for share in shares} == {n: row[1] for n, row in TABLE.items()}
    assert sum(share.proportion for share in shares) == 1
    assert sum(share.seen for share in shares) == TOTAL


def test_proportions_of_table_1_follow_from_its_epochs():
    sizes = tokens_of_table()
    shares = solve(sizes, {name: Wish.parse(row[1]) for name, row in TABLE.items()})
    assert {share.name: f"{float(share.proportion):.1%}" for share in shares} == {n: row[0] for n, row in TABLE.items()}
    assert float(sum(share.seen for share in shares)) == pytest.approx(TOTAL, rel=1e-9)


def test_sizes_of_table_1_agree_with_the_tokens_that_were_found():
    """Bytes a token, between LaTeX and web pages: if a row were misread, it would stand out."""
    for name, (*_, gigabytes) in TABLE.items():
        assert 2.7 < gigabytes * 1e9 / tokens_of_table()[name] < 4.1, name


def test_the_shorter_runs_have_the_same_proportions_and_fewer_epochs():
    shares = solve(tokens_of_table(), {name: Wish.parse(row[0]) for name, row in TABLE.items()}, 10**12)
    for share in shares:
        assert float(share.epochs) == pytest.approx(float(TABLE[share.name][1][:-1]) / 1.4, rel=1e-9)


def test_both_kinds_of_wishes_together():
    sizes = {"wiki": 100, "web": 5000, "code": 500}
    wishes = {"wiki": Wish.parse("2.5x"), "web": Wish.parse("3"), "code": Wish.parse("1")}
    wiki, web, code = solve(sizes, wishes, 1250)
    assert (wiki.proportion, web.proportion, code.proportion) == (Fraction(1, 5), Fraction(3, 5), Fraction(1, 5))
    assert (wiki.epochs, web.epochs, code.epochs) == (Fraction(5, 2), Fraction(750, 5000), Fraction(250, 500))


@given(
    sizes=st.lists(st.integers(1, 10**12), min_size=1, max_size=8),
    weights=st.lists(st.integers(1, 1000), min_size=8, max_size=8),
    total=st.integers(1, 10**13),
)
def test_each_way_undoes_the_other(sizes, weights, total):
    named = {str(i): size for i, size in enumerate(sizes)}
    there = solve(named, {name: Wish(Fraction(weights[int(name)])) for name in named}, total)
    back = solve(named, {share.name: Wish(share.epochs, epochs=True) for share in there})
    assert back == there
    assert sum(share.seen for share in back) == total


def test_wishes_are_read():
    assert Wish.parse("0.045") == Wish.parse("4.5%") == Wish.parse(" .045 ") == Wish(Fraction(45, 1000))
    assert Wish.parse("2.45x") == Wish.parse("2.45 epochs") == Wish(Fraction(245, 100), epochs=True)
    for text in ("", "0", "0x", "-1", "x", "1e3", "nan", "1/2", "2.45y"):
        with pytest.raises(SettingError, match="no share"):
            Wish.parse(text)


def test_contradictions_are_refused():
    sizes = {"wiki": 100, "web": 5000}
    half, twice = Wish.parse("0.5"), Wish.parse("2x")
    with pytest.raises(SettingError, match="did you mean 'wiki'"):
        solve(sizes, {"wikki": half, "web": half}, 10)
    with pytest.raises(SettingError, match="'web' has no share"):
        solve(sizes, {"wiki": half}, 10)
    with pytest.raises(SettingError, match="seen in all; give it"):
        solve(sizes, {"wiki": twice, "web": half})
    with pytest.raises(SettingError, match=r"take 200 tokens, all of the 200"):
        solve(sizes, {"wiki": twice, "web": half}, 200)
    with pytest.raises(SettingError, match=r"come to 10,200 tokens, not 9,000"):
        solve(sizes, {"wiki": twice, "web": twice}, 9000)
    assert solve(sizes, {"wiki": twice, "web": twice}, 10201) == solve(sizes, {"wiki": twice, "web": twice})
    with pytest.raises(SettingError, match="no tokens"):
        solve({"wiki": 0}, {"wiki": half}, 10)


def test_rows_are_exact_for_decimals():
    assert in_rows([Wish.parse(row[0]).amount for row in TABLE.values()]) == [134, 30, 9, 9, 9, 5, 4]
    assert in_rows([Fraction(7)]) == [1]


@given(st.lists(st.integers(10**4, 10**7), min_size=1, max_size=20))
def test_rows_are_near_for_anything(weights):
    rows = in_rows([Fraction(weight) for weight in weights])
    for count, weight in zip(rows, weights, strict=True):
        assert count / sum(rows) == pytest.approx(weight / sum(weights), rel=0.01, abs=1e-7)


def test_small_shares_are_kept():
    assert in_rows([Fraction(1, 10**6), 1 - Fraction(1, 10**6)]) == [1, 999_999]
    assert in_rows([Fraction(1, 99_991), Fraction(99_990, 99_991)]) == [1, 99_990]
    with pytest.raises(SettingError, match=r"less than one row in 1,048,576"):
        in_rows([Fraction(1), Fraction(10**7)])
