"""What a mixture is made of: by proportion or by epochs, each solved from the other (LLaMA, section 2.1, Table 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Final

from llamero.errors import SettingError, nearest

_WISH: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(%|x| ?epochs?)?")
_MOST: Final = 1 << 20  # rows after which a mixture repeats its order
_NEAR: Final = Fraction(1, 100)  # a total of whole steps may differ so much from one by epochs


@dataclass(frozen=True)
class Wish:
    """How much of a part is wanted: a weight beside the weights of others, or so many epochs of it."""

    amount: Fraction
    epochs: bool = False

    @classmethod
    def parse(cls, text: str) -> Wish:
        """A wish from "0.67" or "67%", a weight, or "2.45x", epochs. Raises SettingError for anything else."""
        found = _WISH.fullmatch(text.strip())
        if found is None or not Fraction(found[1]):
            raise SettingError(
                f"{text!r} is no share of a mixture: give a proportion such as 0.67 or 67%, or epochs such as 2.45x"
            )
        amount = Fraction(found[1]) / (100 if found[2] == "%" else 1)
        return cls(amount, epochs=found[2] is not None and found[2] != "%")


@dataclass(frozen=True)
class Share:
    """One part of a solved mixture. tokens: how many it has. proportion: of all tokens seen. epochs: how often each."""

    name: str
    tokens: int
    proportion: Fraction
    epochs: Fraction

    @property
    def seen(self) -> Fraction:
        """How many of its tokens are seen in all, repeats included."""
        return self.tokens * self.epochs


def solve(sizes: Mapping[str, int], wishes: Mapping[str, Wish], total: int | None = None) -> list[Share]:
    """Proportions and epochs of all parts, exactly, in the order of `sizes`.

    sizes: tokens of each part. wishes: for the same names. total: tokens seen in all; may be left out where all parts
    are wished for by epochs, which then decide it. Weights share out what the parts with epochs leave.
    Raises SettingError for parts without a wish or data, no total, one that the epochs contradict or use up.
    """
    _check(sizes, wishes)
    seen = {name: sizes[name] * wish.amount for name, wish in wishes.items() if wish.epochs}
    weights = {name: wish.amount for name, wish in wishes.items() if not wish.epochs}
    fixed = sum(seen.values(), Fraction(0))
    whole = _whole(fixed, total, bool(weights))
    for name, weight in weights.items():
        seen[name] = (whole - fixed) * weight / sum(weights.values())
    return [Share(name, size, seen[name] / whole, seen[name] / size) for name, size in sizes.items()]


def _check(sizes: Mapping[str, int], wishes: Mapping[str, Wish]) -> None:
    for name in wishes.keys() - sizes.keys():
        raise SettingError(f"there is no data called {name!r} for the mixture ({nearest(name, sizes)})")
    for name in sizes.keys() - wishes.keys():
        raise SettingError(f"{name!r} has no share of the mixture; give it a proportion or epochs, or leave it out")
    for name, size in sizes.items():
        if size < 1:
            raise SettingError(f"{name!r} has no tokens")


def _whole(fixed: Fraction, total: int | None, more: bool) -> Fraction:
    """All tokens that are seen. fixed: those that epochs decide. more: whether some parts go by proportion."""
    if not more:
        if total is not None and abs(total - fixed) > fixed * _NEAR:
            raise SettingError(
                f"these epochs come to {float(fixed):,.0f} tokens, not {total:,}; ask for so many, or give a proportion"
            )
        return fixed
    if total is None:
        raise SettingError("proportions do not tell epochs without the number of tokens that are seen in all; give it")
    if fixed >= total:
        raise SettingError(f"the parts by epochs take {float(fixed):,.0f} tokens, all of the {total:,}; none are left")
    return Fraction(total)


def in_rows(proportions: Sequence[Fraction]) -> list[int]:
    """Whole numbers of rows in these proportions, as few as there can be.

    Exact where the proportions have a common denominator of at most 1,048,576, as decimals do; else that many rows are
    shared out by largest remainders. Raises SettingError for a share of less than one of them.
    """
    total = sum(proportions, Fraction(0))
    exact = [proportion / total for proportion in proportions]
    if min(exact) * _MOST < 1:
        raise SettingError(f"a share of {float(min(exact)):.2g} is less than one row in {_MOST:,}; leave that part out")
    period = min(lcm(*(proportion.denominator for proportion in exact)), _MOST)
    rows = [int(period * proportion) for proportion in exact]
    order = sorted(range(len(rows)), key=lambda i: rows[i] - period * exact[i])  # the largest remainder first
    for index in order[: period - sum(rows)]:
        rows[index] += 1
    return rows
