"""Choices of many rows at once, and the native choice, against the chain itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamero.engine.choosing import Choosers
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Sampler, Sampling
from llamero.errors import WeightsError
from llamero.ops.choosing import choose, exponentials
from llamero.ops.native_ops import levels

Logits = NDArray[np.float32]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 1.7, "top_p": 0.999},
    {"top_p": 0.05},
    {"top_k": 40, "top_p": 0.95},
    {"top_k": 1},
    {"top_k": 3000, "top_p": 1.0},
    {"min_p": 0.05, "top_p": 1.0},
    {"min_p": 1e-9, "top_p": 0.9, "top_k": 100, "temperature": 0.2},
    {"min_p": 1.0, "top_p": 1.0},
]


def rows(rng: np.random.Generator, size: int) -> list[Logits]:
    """Flat, pointed, with equals, with what a grammar forbids, and with one candidate."""
    flat = rng.standard_normal(size).astype(np.float32)
    masked = np.where(rng.random(size) < 0.99, -np.inf, flat * 3).astype(np.float32)
    masked[size // 2] = 1
    alone = np.full(size, -np.inf, np.float32)
    alone[size - 1] = -3
    return [flat, flat * 8 + 100, np.round(flat * 4), masked, alone]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("size", [1, 15, 64, 1000, 32_003])
def test_the_native_choice_is_the_chains(level: str, size: int) -> None:
    rng = np.random.default_rng(size)
    told = unsure = 0
    for number, options in enumerate(SETTINGS * (1 if size > 1000 else 3)):
        settings = Sampling(seed=1, **options)
        for row in rows(rng, size):
            uniform = rng.random()
            few = (settings.temperature, settings.top_k, settings.top_p, settings.min_p)
            token = choose(row, *few, uniform, level)
            told += 1
            if token is None:
                unsure += 1
            elif level == levels()[-1]:  # the chain's own weights are of this level
                assert token == Sampler(settings, size)._chain(row.copy(), uniform), (number, options)
            else:
                assert row[token] > -np.inf
    assert unsure < 0.4 * told


def test_hardly_any_choice_is_left_to_the_chain() -> None:
    """Where no two logits are equal it is a matter of luck in the last of a sum's bits."""
    rng = np.random.default_rng(0)
    row = rng.permutation(np.linspace(-12, 12, 50_000)).astype(np.float32)
    for scale in (0.3, 1, 4):
        for few in ((0.6, 0, 0.9, 0.0), (1.0, 40, 0.95, 0.0), (1.0, 0, 1.0, 0.0)):
            assert sum(choose(row * np.float32(scale), *few, rng.random()) is None for _ in range(50)) <= 2


@pytest.mark.parametrize("level", levels())
def test_exponentials(level: str) -> None:
    values = np.concatenate([-np.geomspace(1e-9, 87, 1001), [0, -np.inf, -200]]).astype(np.float32)
    got = exponentials(values, level)
    np.testing.assert_allclose(got, np.exp(np.where(values < -87.3, -np.inf, values.astype(np.float64))), rtol=4e-7)
    assert got[-3:].tolist() == [1, 0, 0]


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_shared_out_and_each_has_its_own_end(threads: int) -> None:
    logits = np.random.default_rng(0).standard_normal((17, 500)).astype(np.float32)
    logits[5, 3] = np.nan

    def runs() -> list[Run]:
        some = [Request(prompt=(1, 2), sampling=Sampling(seed=i, top_k=i), max_tokens=9) for i in range(17)]
        return [Run(request, vocab=500, context=100) for request in some]

    together = Choosers(threads).choose(runs(), logits)
    assert isinstance(together[5], WeightsError)
    for i, (run, outcome) in enumerate(zip(runs(), together, strict=True)):
        if i != 5:
            assert outcome == run.accept(logits[i])
