"""The sampler chain: every cut against a slow obvious twin, the order, ties, seeds, ranges, and broken logits."""

from __future__ import annotations

import math
from collections import Counter
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llamero.engine import sampling
from llamero.engine.sampling import Sampler, Sampling, SamplingOptions
from llamero.errors import SettingError, WeightsError

Logits = NDArray[np.float32]


def softmax(logits: list[float]) -> list[float]:
    highest = max(logits)
    weights = [math.exp(x - highest) for x in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def fill(order: list[int], chances: list[float], p: float) -> set[int]:
    """Tokens in that order until they hold probability p."""
    kept, mass = set(), 0.0
    for i in order:
        kept.add(i)
        mass += chances[i]
        if mass >= p:
            break
    return kept


def slow_top_k(logits: list[float], k: int) -> set[int]:
    return set(sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:k])


def slow_top_p(logits: list[float], p: float) -> set[int]:
    return fill(sorted(range(len(logits)), key=lambda i: (-logits[i], i)), softmax(logits), p)


def slow_min_p(logits: list[float], share: float) -> set[int]:
    chances = softmax(logits)
    least = share * max(chances)
    return {i for i, c in enumerate(chances) if c >= least}


def slow_typical_p(logits: list[float], p: float) -> set[int]:
    chances = softmax(logits)
    entropy = -math.fsum(c * math.log(c) for c in chances if c > 0)
    return fill(sorted(range(len(logits)), key=lambda i: (abs(-math.log(chances[i]) - entropy), i)), chances, p)


# Quarters are exact in float32, so equal logits are really equal and the twins meet ties as well.
quarters = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=60)
shares = st.integers(1, 99).map(lambda n: n / 100 + 0.0037)  # off the exact sums that rounding could tip


@given(quarters, st.integers(1, 70))
def test_top_k_agrees_with_its_twin(logits: list[float], k: int) -> None:
    kept = sampling.top_k(np.array(logits, np.float32), k)
    assert kept.tolist() == sorted(slow_top_k(logits, k))


@given(quarters, shares)
def test_top_p_agrees_with_its_twin(logits: list[float], p: float) -> None:
    kept = sampling.top_p(np.array(logits, np.float32), p).tolist()
    assert kept == sorted(kept)
    # a sum within rounding of p may fall either way
    assert set(kept) in (slow_top_p(logits, p - 1e-6), slow_top_p(logits, p + 1e-6))


@given(quarters, shares)
def test_min_p_agrees_with_its_twin(logits: list[float], share: float) -> None:
    assert set(sampling.min_p(np.array(logits, np.float32), share).tolist()) == slow_min_p(logits, share)


def test_min_p_of_almost_nothing_keeps_all() -> None:
    assert sampling.min_p(np.array([0, -50, 3], np.float32), 1e-300).tolist() == [0, 1, 2]


@given(quarters, shares)
def test_typical_p_agrees_with_its_twin(logits: list[float], p: float) -> None:
    kept = sampling.typical_p(np.array(logits, np.float32), p).tolist()
    chances = softmax(logits)
    assert kept == sorted(kept)
    wanted = slow_typical_p(logits, p)
    # equally typical tokens may come in either order, so compare what they hold
    assert math.fsum(chances[i] for i in kept) >= p - 1e-6
    assert len(kept) == len(wanted) or set(kept) in (slow_typical_p(logits, p - 1e-6), slow_typical_p(logits, p + 1e-6))


@pytest.mark.parametrize("size", [1000, 30_000])
def test_typical_p_on_large_vocabularies(size: int) -> None:
    for spread in (0.01, 1.0, 6.0):  # flat ones need many tokens, the last and widest few
        logits = (np.random.default_rng(1).standard_normal(size) * spread).astype(np.float32)
        assert set(sampling.typical_p(logits, 0.7).tolist()) == slow_typical_p(logits.tolist(), 0.7)
        assert set(sampling.top_p(logits, 0.7).tolist()) == slow_top_p(logits.tolist(), 0.7)


@given(quarters, st.floats(0, 1, exclude_max=True))
def test_draw_passes_the_uniform_number(logits: list[float], uniform: float) -> None:
    drawn = sampling.draw(np.array(logits, np.float32), uniform)
    chances = softmax(logits)
    assert math.fsum(chances[:drawn]) <= uniform + 1e-6
    assert math.fsum(chances[: drawn + 1]) >= uniform - 1e-6


def test_draw_never_gives_the_impossible() -> None:
    logits = np.array([-1e9, 0, -1e9, 0, -1e9], np.float32)
    assert {sampling.draw(logits, u) for u in (0.0, 0.3, 0.7, np.nextafter(1, 0))} == {1, 3}


def slow_chain(logits: Logits, options: dict[str, Any], recent: list[int], answer: list[int]) -> list[float]:
    """Probabilities after the documented chain, in plain Python."""
    get = Sampling(**options)
    values = [float(x) for x in logits]
    for i in set(recent[-get.repeat_last_n :] if get.repeat_last_n else []):
        values[i] = values[i] / get.repeat_penalty if values[i] > 0 else values[i] * get.repeat_penalty
    for i, uses in Counter(answer).items():
        values[i] -= get.presence_penalty + get.frequency_penalty * uses
    for i, bias in get.logit_bias.items():
        values[i] += bias
    values = [x / get.temperature for x in values]
    alive = list(range(len(values)))
    for cut, setting, neutral in (
        (slow_top_k, get.top_k, 0),
        (slow_top_p, get.top_p, 1),
        (slow_min_p, get.min_p, 0),
        (slow_typical_p, get.typical_p, 1),
    ):
        if setting != neutral:
            kept = cut([values[i] for i in alive], setting)  # type: ignore[operator]
            alive = [i for place, i in enumerate(alive) if place in kept]
    chances = softmax([values[i] for i in alive])
    return [dict(zip(alive, chances, strict=True)).get(i, 0.0) for i in range(len(values))]


CHAINS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.3, "top_k": 5, "top_p": 0.83},
    {"temperature": 0.9, "top_p": 0.71, "min_p": 0.13, "typical_p": 0.77},
    {"top_p": 1, "repeat_penalty": 1.7, "repeat_last_n": 3},
    {"top_p": 1, "repeat_penalty": 0.6, "repeat_last_n": 0},
    {"top_p": 0.91, "presence_penalty": 1.1, "frequency_penalty": 0.45},
    {"top_k": 4, "logit_bias": {0: 9.0, 3: -100.0}, "temperature": 2.0},
    {"top_k": 7, "top_p": 0.93, "min_p": 0.02, "typical_p": 0.91, "repeat_penalty": 1.2, "frequency_penalty": -0.3},
]


@pytest.mark.parametrize("options", CHAINS)
def test_whole_chain_draws_from_the_slow_chains_distribution(options: dict[str, Any]) -> None:
    """Many uniform numbers through the fast chain fill the slow chain's probabilities: order and all."""
    logits = (np.random.default_rng(7).standard_normal(12) * 2).astype(np.float32)
    prompt, answer = [1, 2, 2, 5, 9], [4, 4, 2]
    wanted = slow_chain(logits, options, prompt + answer, answer)
    counts = np.zeros(12)
    draws = 400
    for i in range(draws):
        sampler = Sampler(Sampling(**options), 12, prompt)
        sampler._answer.update(answer)
        sampler._recent.extend(answer)
        sampler._random = Fixed((i + 0.5) / draws)  # type: ignore[assignment]
        counts[sampler.choose(logits, 0).id] += 1
    assert np.abs(counts / draws - wanted).max() < 1.01 / draws


class Fixed:
    """A source of one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def test_penalties_follow_the_answer_as_it_grows() -> None:
    """presence and frequency count the answer only; the repeat window holds the prompt too and slides."""
    logits = np.array([3.0, 2.9, 2.8, 2.7], np.float32)
    greedy = Sampler(Sampling(temperature=0, frequency_penalty=0.15), 4, [0, 0, 0])
    assert [greedy.choose(logits, 0).id for _ in range(6)] == [0, 1, 0, 2, 1, 0]
    window = Sampler(Sampling(temperature=0, repeat_penalty=2, repeat_last_n=2), 4, [1, 0])
    assert [window.choose(logits, 0).id for _ in range(4)] == [2, 1, 0, 2]


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-9])
def test_greedy_takes_the_lowest_of_equals(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature), 5)
    assert sampler.choose(np.array([1, 4, 2, 4, 4], np.float32), 0).id == 1


@pytest.mark.parametrize(
    "options", [{"top_p": 0}, {"min_p": 1}, {"typical_p": 0, "top_p": 1}, {"top_k": 1}, {"temperature": 1e-4}]
)
def test_the_hardest_cut_leaves_one(options: SamplingOptions) -> None:
    logits = np.array([0.5, 3, 2, 3.5, -1e30], np.float32)
    sampler = Sampler(Sampling(**options), 5)
    drawn = {sampler.choose(logits, 0).id for _ in range(20)}
    assert len(drawn) == 1
    assert drawn == {3} or "typical_p" in options


@settings(max_examples=30)
@given(st.integers(-(2**63), 2**63 - 1))
def test_a_seed_gives_the_same_ids(seed: int) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    a, b = (Sampler(Sampling(seed=seed, temperature=2), 50) for _ in range(2))
    other = [b.choose(row, 0).id for row in rows]
    assert [a.choose(row, 0).id for row in rows] == other
    assert a.seed == seed


def test_no_seed_is_a_fresh_and_reported_one() -> None:
    rows = np.zeros((30, 1000), np.float32)
    first = Sampler(Sampling(), 1000)
    second = Sampler(Sampling(), 1000)
    ids = [first.choose(row, 0).id for row in rows]
    assert ids != [second.choose(row, 0).id for row in rows]
    again = Sampler(Sampling(seed=first.seed), 1000)
    assert ids == [again.choose(row, 0).id for row in rows]


def test_logits_are_left_alone() -> None:
    logits = np.arange(6, dtype=np.float32)
    Sampler(Sampling(repeat_penalty=2, logit_bias={1: 5}), 6, [5]).choose(logits, 0)
    assert logits.tolist() == [0, 1, 2, 3, 4, 5]


def test_logprobs_are_the_models_own() -> None:
    logits = np.array([1.0, 3.0, 3.0, -2.0], np.float32)
    choice = Sampler(Sampling(temperature=0, logit_bias={3: 100}), 4).choose(logits, 0, logprobs=3)
    chances = softmax(logits.tolist())
    assert choice.id == 3
    assert choice.logprob == pytest.approx(math.log(chances[3]), abs=1e-6)
    assert [i for i, _ in choice.top] == [1, 2, 0]
    assert [math.exp(x) for _, x in choice.top] == pytest.approx([chances[1], chances[2], chances[0]], abs=1e-6)
    assert Sampler(Sampling(), 4).choose(logits, 0, logprobs=0).top == ()
    assert Sampler(Sampling(), 4).choose(logits, 0).logprob is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_weights_are_named(bad: float) -> None:
    logits = np.zeros(10, np.float32)
    logits[6] = bad
    with pytest.raises(WeightsError, match=r"position 41 .*token 6.*llamero inspect"):
        Sampler(Sampling(), 10).choose(logits, 41)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -0.1, "temperature must be a number from 0 to 100, got -0.1"),
        ("temperature", math.nan, "temperature must be"),
        ("temperature", "0.5", "temperature must be a number"),
        ("top_p", 1.1, "top_p must be a number from 0 to 1, got 1.1"),
        ("top_k", 2.5, "top_k must be a whole number"),
        ("top_k", True, "top_k must be a whole number"),
        ("min_p", -1, "min_p"),
        ("typical_p", 2, "typical_p"),
        ("repeat_penalty", 0, "repeat_penalty"),
        ("repeat_last_n", -1, "repeat_last_n"),
        ("presence_penalty", 3, "presence_penalty must be a number from -2 to 2, got 3"),
        ("frequency_penalty", -3, "frequency_penalty"),
        ("seed", 1.5, "seed"),
        ("seed", 2**63, "seed"),
        ("logit_bias", {1: 101}, r"logit_bias\[1\]"),
        ("logit_bias", {"a": 1}, "logit_bias token"),
        ("logit_bias", 3, "logit_bias must map"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Sampling(**{name: value})


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"'temprature'.*did you mean 'temperature'"):
        Sampling.of({"temprature": 1})
    with pytest.raises(SettingError, match="did you mean 'max_tokens'"):
        Sampling.of({"max_token": 1}, also=["max_tokens"])
    with pytest.raises(SettingError, match="token 9; this model's are 0 to 7"):
        Sampler(Sampling(logit_bias={9: 1}), 8)


def test_the_keyword_names_are_the_fields() -> None:
    assert set(SamplingOptions.__annotations__) == set(Sampling.__dataclass_fields__)
    assert set(sampling._RANGES) == set(Sampling.__dataclass_fields__) - {"logit_bias"}


def test_settings_cannot_be_changed_later() -> None:
    bias = {1: 2.0}
    chosen = Sampling(logit_bias=bias)
    bias[1] = 50
    assert chosen.logit_bias == {1: 2.0}
    with pytest.raises(TypeError):
        chosen.logit_bias[1] = 3  # type: ignore[index]


def test_a_128k_vocabulary_is_fast() -> None:
    """Typical settings take about half a millisecond; the bound is loose because the machine may be busy."""
    logits = (np.random.default_rng(0).standard_normal(128_256) * 3).astype(np.float32)
    logits[:20] += 15
    for options in ({}, {"top_k": 40, "top_p": 0.95, "min_p": 0.05}, {"repeat_penalty": 1.1}, {"min_p": 0.05}):
        sampler = Sampler(Sampling(**options), 128_256, range(1000))  # type: ignore[arg-type]
        times = []
        for _ in range(15):
            start = perf_counter()
            sampler.choose(logits, 0)
            times.append(perf_counter() - start)
        assert min(times) < 5e-3, options
