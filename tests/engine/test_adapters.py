"""Runs with adapters: several in one step, each as if alone; beginnings are shared only under the same adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero.engine.generate import Engine
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Sampling
from llamero.engine.schedule import Scheduler
from llamero.errors import SettingError
from llamero.model.adapter import Adapter, Matrix
from llamero.model.weights import Weights
from llamero.ops.adapted_ops import LowRank

Make = Callable[..., Engine[Any, Any]]
PROMPT = (1, 17, 4, 33, 60, 2, 2, 9, 41, 5)


def random_adapter(weights: Weights[Any], seed: int, rank: int = 3) -> Adapter[Matrix]:
    """Changes of every matrix of every layer and of the output, as large as the matrices themselves."""
    rng = np.random.default_rng(seed)
    changes = {}
    for name, (out, inputs) in ((n, s) for n, s in weights.config.shapes().items() if len(s) == 2 and n != "embedding"):
        a, b = rng.standard_normal((rank, inputs)), rng.standard_normal((rank, out))
        changes[name] = LowRank(a.astype(np.float32), (0.15 * b).astype(np.float32))
    return Adapter(Path(f"random-{seed}"), changes)


def merged(weights: Weights[Any], adapter: Adapter[Matrix]) -> Weights[Any]:
    """The weights with the changes made to them."""
    layers = list(weights.layers)
    for name, change in adapter.changes.items():
        if name != "output":
            _, index, part = name.split(".")
            layer = layers[int(index)]
            layers[int(index)] = replace(layer, **{part: getattr(layer, part) + change.b.T @ change.a})
    output = adapter.changes["output"]
    return replace(weights, layers=tuple(layers), output=weights.output + output.b.T @ output.a)


class Heard:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.error: Exception | None = None

    def read(self, done: int, total: int) -> None:
        pass

    def chose(self, choice: Choice) -> None:
        self.ids.append(choice.id)

    def ended(self, error: Exception | None) -> None:
        self.error = error


def asked(adapter: str | None, prompt: tuple[int, ...] = PROMPT, count: int = 8) -> Request:
    return Request(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=count, adapter=adapter)


def told(engine: Engine[Any, Any], request: Request) -> tuple[list[int], Run]:
    run = engine.plan(request)
    return [choice.id for choice in engine.generate(run)], run


@pytest.fixture
def engine(make_engine: Make) -> Engine[Any, Any]:
    engine = make_engine(context=400)
    for seed in (1, 2):
        engine.adapters.add(f"a{seed}", random_adapter(engine.weights, seed))
    return engine


def test_a_mixed_step_says_what_each_says_alone(engine: Engine[Any, Any], slowly: Callable[..., list[int]]) -> None:
    scheduler, names = Scheduler(engine), ["a1", None, "a2", "a1", None]
    prompts = [(*PROMPT, number) for number in range(len(names))]
    heard = [Heard() for _ in names]
    for name, prompt, listener in zip(names, prompts, heard, strict=True):
        scheduler.submit(engine.plan(asked(name, prompt)), listener)
    while scheduler.step():
        pass
    assert max(len(step) for step in engine.ops.steps) == len(names)
    models = {None: engine.weights} | {
        f"a{seed}": merged(engine.weights, random_adapter(engine.weights, seed)) for seed in (1, 2)
    }
    for name, prompt, listener in zip(names, prompts, heard, strict=True):
        assert listener.error is None
        assert listener.ids == slowly(prompt, 8, models[name])
    assert len({tuple(listener.ids) for listener in heard[:3]}) == 3


def test_beginnings_are_not_shared_between_adapters(engine: Engine[Any, Any]) -> None:
    first, _ = told(engine, asked("a1"))
    for name, cached in (("a2", 0), (None, 0), ("a1", len(PROMPT) - 1), ("a2", len(PROMPT) - 1)):
        ids, run = told(engine, asked(name))
        assert run.cached_tokens == cached
        assert (ids == first) == (name == "a1")


def test_another_adapter_of_the_same_name_is_another(engine: Engine[Any, Any]) -> None:
    before, _ = told(engine, asked("a1"))
    engine.adapters.remove("a1")
    with pytest.raises(SettingError, match="'a1' is unknown: choose from a2"):
        engine.plan(asked("a1"))
    engine.adapters.add("a1", random_adapter(engine.weights, 7))
    after, run = told(engine, asked("a1"))
    assert run.cached_tokens == 0
    assert before != after
    with pytest.raises(SettingError, match="already"):
        engine.adapters.add("a1", random_adapter(engine.weights, 8))
    assert list(engine.adapters) == ["a2", "a1"]


def test_a_run_ends_with_the_adapter_it_began_with(engine: Engine[Any, Any]) -> None:
    whole, _ = told(engine, asked("a1"))
    stream = engine.generate(engine.plan(asked("a1")))
    ids = [next(stream).id for _ in range(3)]
    engine.adapters.remove("a1")
    assert ids + [choice.id for choice in stream] == whole


def test_logits_and_embeddings_of_an_adapted_model(engine: Engine[Any, Any], make_engine: Make) -> None:
    other = make_engine(weights=merged(engine.weights, random_adapter(engine.weights, 2)))
    np.testing.assert_allclose(engine.logits(PROMPT, adapter="a2"), other.logits(PROMPT), atol=2e-4)
    np.testing.assert_allclose(engine.embedding(PROMPT, adapter="a2"), other.embedding(PROMPT), atol=1e-5)
    assert np.abs(engine.logits(PROMPT) - other.logits(PROMPT)).max() > 0.1


def test_a_step_without_adapters_is_the_plain_one(engine: Engine[Any, Any]) -> None:
    assert engine.adapters.over([(None, 3), (None, 1)]) == (engine.ops, engine.weights)
