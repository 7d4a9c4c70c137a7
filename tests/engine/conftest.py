"""Tiny random models for the engine's tests, and the slow loop that the engine must agree with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamero.engine.generate import Engine
from llamero.model.config import Config
from llamero.model.llama import forward
from llamero.model.weights import Weights, assemble
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span

CONFIG = Config(dim=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn_dim=48, vocab=61, context=512)


class CountingOps(NumpyOps):
    """The oracle, counting steps and the tokens they read."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []  # of each step, its spans' lengths

    def begin(self, store: Any, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> Any:
        self.steps.append([span.length for span in spans])
        return super().begin(store, spans, inv_freq)

    @property
    def read(self) -> int:
        return sum(sum(step) for step in self.steps)


def random_weights(seed: int = 0) -> Weights[Any]:
    rng = np.random.default_rng(seed)
    shapes = CONFIG.shapes()

    def get(name: str) -> NDArray[np.float32]:
        shape = shapes[name]
        if len(shape) == 1:
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return (rng.standard_normal(shape) * (1.0 if name == "embedding" else 0.4)).astype(np.float32)

    return assemble(CONFIG, get)


WEIGHTS = random_weights()


def naive(prompt: Sequence[int], count: int, weights: Weights[Any] = WEIGHTS) -> list[int]:
    """Greedy continuation, every step from scratch without a cache."""
    ids, ops = list(prompt), NumpyOps()
    for _ in range(count):
        ids.append(int(forward(ops, weights, None, ids, [Span(0, len(ids))], [len(ids) - 1])[0].argmax()))
    return ids[len(prompt) :]


@pytest.fixture
def make_engine() -> Callable[..., Engine[Any, Any]]:
    def make(
        context: int = 200, chunk: int = 512, weights: Weights[Any] = WEIGHTS, room: int | None = None
    ) -> Engine[Any, Any]:
        return Engine(CountingOps(), weights, context=context, room=room, cache="f32", chunk=chunk)

    return make


@pytest.fixture
def slowly() -> Callable[..., list[int]]:
    return naive
