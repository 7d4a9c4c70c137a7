"""Choosing the next token: a chain of small samplers in one fixed order.

    constraint -> penalties -> logit bias -> temperature -> top_k -> top_p -> min_p -> typical_p -> draw

A setting at its neutral value is skipped. Temperature 0 is greedy: the highest logit after penalties and bias, the
lowest id among equals, nothing divided and nothing drawn. Every cut keeps at least one token and breaks ties by the
lowest id. The defaults are those Meta publishes with its Llamas: temperature 0.6, top_p 0.9, everything else off.

A cut is a function of (logits, its setting) that gives the indices it keeps, in ascending order. A new one is a
function, a row in `_CUTS`, and its setting with a range. Each full-vocabulary pass is linear: nothing sorts 128k
numbers unless that many are likely. This file knows ids and logits; neither text nor models.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from llamero.errors import ConstraintError, SettingError, WeightsError, nearest
from llamero.ops.choosing import choose, exponentials

Logits: TypeAlias = NDArray[np.float32]
Kept: TypeAlias = NDArray[np.intp]

_BLOCK = 512  # weights that are summed at once
_GREEDY = 1e-5  # below this temperature float32 cannot tell the outcome from greedy
_RANGES: dict[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 100),
    "top_k": (int, 0, 2**31),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "typical_p": (float, 0, 1),
    "repeat_penalty": (float, 0.01, 100),
    "repeat_last_n": (int, 0, 2**31),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
    "seed": (int, -(2**63), 2**63 - 1),
}


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. Raises SettingError for a value out of its range.

    temperature: 0 (greedy) to 100; divides the logits.
    top_k: keep this many most likely tokens (Fan et al. 2018); 0 is off.
    top_p: keep the fewest tokens that hold this probability (Holtzman et al. 2019); 1 is off.
    min_p: keep tokens at least this share of the most likely one (Nguyen et al. 2024); 0 is off.
    typical_p: keep the tokens nearest the expected information that hold this probability (Meister et al. 2022);
        1 is off.
    repeat_penalty: positive logits of the last `repeat_last_n` tokens, prompt included, are divided by it, negative
        ones multiplied (Keskar et al. 2019); 1 is off.
    presence_penalty, frequency_penalty: subtracted once, and once per use, from the logits of tokens that the answer
        holds so far (not the prompt), -2 to 2, as OpenAI defines them; 0 is off.
    logit_bias: token id -> what is added to its logit, -100 to 100.
    seed: None draws a fresh one, which the result reports; the same seed gives the same ids.
    """

    temperature: float = 0.6
    top_k: int = 0
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (name == "seed" and value is None):
                check_number(name, value, kind, low, high)
        if not isinstance(self.logit_bias, Mapping):
            raise SettingError(f"logit_bias must map token ids to numbers, got {self.logit_bias!r}")
        for token, bias in self.logit_bias.items():
            check_number("logit_bias token", token, int, 0, 2**31)
            check_number(f"logit_bias[{token}]", bias, float, -100, 100)
        object.__setattr__(self, "logit_bias", MappingProxyType(dict(self.logit_bias)))

    @classmethod
    def of(cls, options: Mapping[str, Any], also: Iterable[str] = ()) -> Sampling:
        """Settings from a mapping; an unknown name is refused with the nearest valid one (or one of `also`)."""
        valid = [item.name for item in fields(cls)]
        for name in options:
            if name not in valid:
                raise SettingError(f"unknown option {name!r}: {nearest(name, {*valid, *also})}")
        return cls(**options)


def check_number(name: str, value: object, kind: type, low: float, high: float) -> None:
    """Raise SettingError unless `value` is a finite number of that kind from `low` to `high`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    number = whole or (kind is float and isinstance(value, (float, np.floating)))
    if not (number and low <= value <= high):  # type: ignore[operator]
        what = "a whole number" if kind is int else "a number"
        raise SettingError(f"{name} must be {what} from {low:g} to {high:g}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token.

    logprob: natural logarithm of the probability that the model itself gave it, before the chain; None unless asked.
    top: the likeliest tokens with theirs, most likely first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def scored(logits: Logits, token: int, count: int) -> Choice:
    """A given token in the place of the logits (vocab,), with its logarithm and those of `count` likeliest tokens."""
    return Choice(token, *_logprobs(logits, token, count))


class Sampler:
    """One request's chain: its settings, its own random numbers (PCG64), and the tokens that penalties look at."""

    def __init__(self, settings: Sampling, vocab: int, prompt: Iterable[int] = ()) -> None:
        outside = [token for token in settings.logit_bias if token >= vocab]
        if outside:
            raise SettingError(f"logit_bias names token {outside[0]}; this model's are 0 to {vocab - 1}")
        self.settings = settings
        self.seed = secrets.randbits(32) if settings.seed is None else int(settings.seed)
        self._random = np.random.Generator(np.random.PCG64(self.seed & (2**64 - 1)))
        self._recent: deque[int] = deque(prompt, maxlen=settings.repeat_last_n)
        self._answer: Counter[int] = Counter()
        self._bias_ids = np.fromiter(settings.logit_bias, np.intp)
        self._bias = np.fromiter(settings.logit_bias.values(), np.float32)

    def copy(self) -> Sampler:
        """The same chain at the same place, to look ahead with: both choose the same from the same logits."""
        twin = copy(self)
        twin._random = np.random.Generator(np.random.PCG64(0))
        twin._random.bit_generator.state = self._random.bit_generator.state
        twin._recent, twin._answer = self._recent.copy(), self._answer.copy()
        return twin

    def choose(
        self, logits: Logits, position: int, logprobs: int | None = None, mask: Callable[[Logits], None] | None = None
    ) -> Choice:
        """The token after `position`, from the model's logits (vocab,), which are left as they are.

        logprobs: report the choice's own logarithm and those of so many likeliest tokens. mask: makes minus infinity
        of the logits of tokens that may not come next, in place; these are never chosen.
        Raises WeightsError when a logit is not finite, ConstraintError when nothing may come next.
        """
        _check_finite(logits, position)
        scratch = logits.copy()
        if mask is not None:
            mask(scratch)
            if not scratch.max() > -np.inf:
                raise ConstraintError(f"after position {position} the form that was asked for allows no token at all")
        token = self._choose(scratch)
        self._recent.append(token)
        self._answer[token] += 1
        if logprobs is None:
            return Choice(token)
        return Choice(token, *_logprobs(logits, token, logprobs))

    def _choose(self, logits: Logits) -> int:
        settings = self.settings
        if settings.repeat_penalty != 1 and self._recent:
            repeat_penalty(logits, self._recent, settings.repeat_penalty)
        if (settings.presence_penalty or settings.frequency_penalty) and self._answer:
            use_penalty(logits, self._answer, settings.presence_penalty, settings.frequency_penalty)
        logits[self._bias_ids] += self._bias
        if settings.temperature < _GREEDY:
            return int(logits.argmax())
        uniform = self._random.random()
        if settings.typical_p == 1:
            token = choose(logits, settings.temperature, settings.top_k, settings.top_p, settings.min_p, uniform)
            if token is not None:
                return token
        return self._chain(logits, uniform)

    def _chain(self, logits: Logits, uniform: float) -> int:
        """The chain from the temperature on, cut by cut; `choose` gives the same sooner."""
        settings = self.settings
        temperature(logits, settings.temperature)
        ids: Kept | None = None
        for name, neutral, cut in _CUTS:
            value = getattr(settings, name)
            if value != neutral:
                kept = cut(logits, value)
                logits = logits[kept]
                ids = kept if ids is None else ids[kept]
        drawn = draw(logits, uniform)
        return drawn if ids is None else int(ids[drawn])


def repeat_penalty(logits: Logits, recent: Iterable[int], penalty: float) -> None:
    """Make the recent tokens less likely (more, below 1), in place."""
    ids = np.fromiter(set(recent), np.intp)
    seen = logits[ids]
    logits[ids] = np.where(seen > 0, seen / np.float32(penalty), seen * np.float32(penalty))


def use_penalty(logits: Logits, counts: Mapping[int, int], presence: float, frequency: float) -> None:
    """Subtract `presence` once and `frequency` per use from the tokens used, in place."""
    ids = np.fromiter(counts, np.intp)
    uses = np.fromiter(counts.values(), np.float32)
    logits[ids] -= np.float32(presence) + np.float32(frequency) * uses


def temperature(logits: Logits, value: float) -> None:
    """Divide by the temperature, in place; the highest logit is moved to 0 first, so that nothing overflows upwards."""
    logits -= logits.max()
    with np.errstate(over="ignore"):  # a hopeless token may reach -inf, which is right
        logits /= np.float32(value)


def top_k(logits: Logits, k: int) -> Kept:
    """The k most likely tokens."""
    return _largest(logits, k)


def top_p(logits: Logits, p: float) -> Kept:
    """The fewest tokens that together hold probability p."""
    weights = exponentials(logits - logits.max())
    total = weights.sum(dtype=np.float64)
    # Tokens lighter than (1 - p) / vocab hold less than 1 - p together, so none of them is needed; half of that
    # leaves room for rounding.
    likely = np.flatnonzero(weights >= 0.5 * (1 - p) * total / len(weights))
    values = logits[likely]
    falling = np.sort(values)[::-1]
    count = _crossing(exponentials(falling - falling[0]), p * total, "left") + 1
    return likely[_at_least(values, falling[count - 1], count)]


def min_p(logits: Logits, share: float) -> Kept:
    """The tokens at least `share` times as likely as the most likely one."""
    return np.flatnonzero(logits >= logits.max() + np.float32(math.log(share)))


def typical_p(logits: Logits, p: float) -> Kept:
    """The tokens whose information is nearest to the expected (the entropy) that together hold probability p."""
    shifted = logits.astype(np.float64) - logits.max()
    chances = np.exp(shifted)
    total = chances.sum()
    chances /= total
    information = np.log(total) - shifted
    entropy = chances @ np.where(chances > 0, information, 0.0)
    distance = np.abs(information - entropy)
    for size in (256, 4096, len(logits)):  # the few nearest nearly always hold enough
        nearest_few = _largest(-distance, size)
        order = nearest_few[np.argsort(distance[nearest_few], kind="stable")]
        mass = np.cumsum(chances[order])
        if mass[-1] >= p or size >= len(logits):
            break
    return np.sort(order[: int(np.searchsorted(mass, p)) + 1])


_CUTS: tuple[tuple[str, float, Callable[[Logits, Any], Kept]], ...] = (
    ("top_k", 0, top_k),
    ("top_p", 1, top_p),
    ("min_p", 0, min_p),
    ("typical_p", 1, typical_p),
)


def draw(logits: Logits, uniform: float) -> int:
    """The index where the cumulated probability passes `uniform`, a number from 0 up to but not including 1."""
    weights = exponentials(logits - logits.max())
    index = _crossing(weights, uniform * weights.sum(dtype=np.float64), "right")
    while not weights[index]:  # rounding may lead behind the last token with any probability
        index -= 1
    return index


def _crossing(weights: NDArray[np.float32], mass: float, side: Literal["left", "right"]) -> int:
    """The first index up to which the weights sum to `mass` ("left") or more than it ("right"); else the last.

    Sums of blocks first, then inside one: a running sum of all is ten times slower.
    """
    whole = len(weights) // _BLOCK * _BLOCK
    sums = weights[:whole].reshape(-1, _BLOCK).sum(axis=1, dtype=np.float64)
    reached = np.cumsum(sums)
    block = int(np.searchsorted(reached, mass, side))
    before = reached[block - 1] if block else 0.0
    inside = before + np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    last = min((block + 1) * _BLOCK, len(weights)) - 1
    return min(block * _BLOCK + int(np.searchsorted(inside, mass, side)), last)


def _largest(values: NDArray[np.floating[Any]], count: int) -> Kept:
    """Indices of the `count` largest values in ascending order; among equals the lowest index is taken."""
    if count >= len(values):
        return np.arange(len(values))
    return _at_least(values, np.partition(values, len(values) - count)[len(values) - count], count)


def _at_least(values: NDArray[np.floating[Any]], edge: float, count: int) -> Kept:
    """`_largest`, where the `count`-th largest value is known."""
    kept = np.flatnonzero(values >= edge)
    if len(kept) > count:
        equal = np.flatnonzero(values[kept] == edge)
        kept = np.delete(kept, equal[count - len(kept) :])
    return kept


def _check_finite(logits: Logits, position: int) -> None:
    finite = np.isfinite(logits)
    if not finite.all():
        token = int(np.argmin(finite))
        raise WeightsError(
            f"the model's output after position {position} is not finite (token {token}: {logits[token]}): its weights "
            "are damaged or too large; look at the file with `llamero inspect`"
        )


def _logprobs(logits: Logits, token: int, count: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    highest = float(logits.max())
    total = highest + float(np.log(exponentials(logits - np.float32(highest)).sum(dtype=np.float64)))
    best = _largest(logits, count) if count else np.empty(0, np.intp)
    ranked = best[np.argsort(-logits[best], kind="stable")]
    return float(logits[token]) - total, tuple((int(i), float(logits[i]) - total) for i in ranked)
