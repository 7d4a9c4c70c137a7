"""How fast a model runs on this machine's CPU, and how far that is from what the machine can do at most.

Only forward passes are measured, as llama-bench does: the tokens are random, and none is chosen. A prompt is held
against the arithmetic unit that its weights are multiplied with, writing against the memory that each step reads.
"""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from llamero.engine.generate import Engine, Progress
from llamero.engine.sequence import Sequence as Tokens
from llamero.errors import ModelNotFound, SettingError
from llamero.formats.open import open_model_file
from llamero.interfaces.demand import Demand, demand_of
from llamero.interfaces.devices import memory as memory_here
from llamero.interfaces.loading import find_tokenizer
from llamero.model.cache import cache_bytes
from llamero.model.weights import config_of, load
from llamero.ops.limits import Limits, measure_limits
from llamero.ops.native_ops import NativeOps
from llamero.ops.protocol import CacheKind, Ops

_LEAST = 0.5  # seconds that each figure is measured for in each round
_WARM_UP = 32  # tokens, so that all weights have been touched
_SHORT = 3.0  # seconds; memory that is touched for the first time matters only to what takes less
_PROMPT = 512  # tokens, where the plan does not say
_PAGE = 64  # tokens; the room of each sequence is rounded up to this


@dataclass(frozen=True)
class Plan:
    """What to measure, in so many rounds: reading prompts of these lengths; and adding `write` tokens to each of
    `together` sequences that hold `after` tokens already, in every combination. 0 leaves prompts or writing out; no
    prompts at all are one of 512, or of as much as the model's context holds.
    """

    prompts: tuple[int, ...] = ()
    write: int = 64
    together: tuple[int, ...] = (1,)
    after: tuple[int, ...] = (0,)
    rounds: int = 3

    def __post_init__(self) -> None:
        for name, least in {"prompts": 0, "write": 0, "together": 1, "after": 0, "rounds": 1}.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number < least:
                    raise SettingError(f"{name} must be at least {least}, got {number}")
        if self.prompts and not (self.write or any(self.prompts)):
            raise SettingError("there is nothing to measure: prompt and write are both 0")

    def within(self, context: int) -> Plan:
        """The plan for a model of that context. Raises SettingError for lengths beyond it."""
        plan = self if self.prompts else replace(self, prompts=(min(_PROMPT, context),))
        if plan.longest > context:
            raise SettingError(f"{plan.longest} tokens do not fit the model's context of {context}")
        return plan

    @property
    def longest(self) -> int:
        """The most tokens of one sequence."""
        return max(*self.prompts, self.write and max(self.after) + self.write)

    @property
    def room(self) -> int:
        """Tokens of all sequences together."""
        return max(self.together) * -(-self.longest // _PAGE) * _PAGE


@dataclass
class Figure:
    """A thing measured: tokens a second in each round, and its limit as measured in the same round."""

    kind: Literal["prompt", "write"]
    tokens: int  # read, or added to each sequence
    together: int
    after: int
    limit: Literal["int8", "bf16", "f32", "read"]
    cost: float  # operations, or bytes read, for each token
    speeds: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return statistics.median(self.speeds)

    @property
    def share(self) -> float:
        """How much of the limit is used, 1 for all of it."""
        shares = (speed * self.cost / limit for speed, limit in zip(self.speeds, self.limits, strict=True))
        return statistics.median(shares)


@dataclass(frozen=True)
class Benchmark:
    """All that was measured. memory: the most bytes this process held so far, the mapped weights included."""

    path: str
    demand: Demand
    threads: int
    level: str
    opening: float  # seconds
    memory: int | None
    limits: Limits  # the best of all rounds
    figures: list[Figure]

    def as_json(self) -> dict[str, Any]:
        """The benchmark as JSON values."""
        medians = [{"speed": figure.speed, "share": figure.share} for figure in self.figures]
        whole = asdict(self)
        whole["figures"] = [values | more for values, more in zip(whole["figures"], medians, strict=True)]
        return whole


def benchmark(
    path: Path,
    plan: Plan,
    *,
    threads: int | None = None,
    cache: CacheKind = "f16",
    progress: Progress | None = None,
) -> Benchmark:
    """Open a model and measure it. progress: told how many measurements, of how many, are done.

    Raises what opening a model raises, and SettingError for lengths beyond the model's context.
    """
    started = perf_counter()
    ops = NativeOps(threads)
    engine, demand, plan = _open(path, plan, ops, cache)
    opening = perf_counter() - started
    batch = _Batch(engine, max(plan.together), plan.longest)
    batch.read(1, min(_WARM_UP, plan.longest))
    figures = _figures(plan, demand, cache)
    memory, limits, done = None, [], 0
    for _ in range(plan.rounds):
        for figure in figures:
            figure.speeds.append(_speed(batch, figure))
            done += 1
            if progress:
                progress(done, plan.rounds * len(figures))
        memory = memory or _most_memory()  # before the limits, which need some too
        limits.append(measure_limits(ops))
        for figure in figures:
            figure.limits.append(_of(limits[-1], figure))
    best = Limits.best(limits)
    return Benchmark(str(path), demand, ops.threads, ops.level, opening, memory, best, figures)


class _Batch:
    """Sequences of random tokens that are read and written together."""

    def __init__(self, engine: Engine[Any, Any], count: int, length: int) -> None:
        rng = np.random.default_rng(0)
        self._engine = engine
        self._tokens = [rng.integers(engine.vocab, size=length).tolist() for _ in range(count)]
        self._sequences = [Tokens([]) for _ in range(count)]

    def read(self, count: int, length: int) -> None:
        """Have each of the first `count` sequences hold exactly `length` tokens; those that it holds are not read."""
        for tokens, sequence in zip(self._tokens[:count], self._sequences, strict=False):
            sequence.held = min(sequence.held, length)
            sequence.ids = tokens[:length]
            while sequence.pending:
                self._engine.step([(sequence, min(sequence.pending, self._engine.chunk))])

    def write(self, count: int, length: int) -> None:
        """Add `length` tokens to each of the first `count` sequences, one a step."""
        sequences = self._sequences[:count]
        for _ in range(length):
            for tokens, sequence in zip(self._tokens, sequences, strict=False):
                sequence.ids.append(tokens[len(sequence.ids)])
            self._engine.step([(sequence, 1) for sequence in sequences])


def _open(path: Path, plan: Plan, ops: Ops[Any, Any], cache: CacheKind) -> tuple[Engine[Any, Any], Demand, Plan]:
    """What `Llama` does, with a cache that has room for every sequence of the plan, which is fitted to the model."""
    reader = open_model_file(path)
    try:
        config = config_of(reader)
        plan = plan.within(config.context)
        if (needed := cache_bytes(config, plan.room, cache)) > memory_here():
            raise SettingError(
                f"{max(plan.together)} sequences at once need {needed / 2**30:,.1f} GiB for their cache, more than the "
                f"{memory_here() / 2**30:,.1f} there are; fewer --together, a shorter --after"
            )
        with suppress(ModelNotFound):  # weights alone can be measured too
            find_tokenizer(reader, None, config.vocab)
        engine = Engine(ops, load(reader, ops), context=plan.room, cache=cache)
        return engine, demand_of(reader, config), plan
    finally:
        reader.close()


def _figures(plan: Plan, demand: Demand, cache: CacheKind) -> list[Figure]:
    figures = [Figure("prompt", n, 1, 0, demand.unit, float(demand.operations)) for n in plan.prompts if n]
    for after in sorted(plan.after) if plan.write else ():  # in order: each goes on where the one before stopped
        for together in plan.together:
            cost = demand.step(together, after + plan.write // 2, cache) / together
            figures.append(Figure("write", plan.write, together, after, "read", cost))
    return figures


def _of(limits: Limits, figure: Figure) -> float:
    return getattr(limits, figure.limit) or limits.f32  # without a unit for bfloats they become floats


def _speed(batch: _Batch, figure: Figure) -> float:
    """Tokens a second, over at least half a second. Of what is short, the very first run only warms up."""
    runs, seconds = 1, _time(batch, figure)
    if not figure.speeds and seconds < _SHORT:
        runs, seconds = 0, 0.0
    while seconds < _LEAST:
        runs, seconds = runs + 1, seconds + _time(batch, figure)
    return figure.tokens * figure.together * runs / seconds


def _time(batch: _Batch, figure: Figure) -> float:
    """Seconds that the figure's tokens take, once."""
    batch.read(figure.together, figure.after)
    started = perf_counter()
    if figure.kind == "prompt":
        batch.read(1, figure.tokens)
    else:
        batch.write(figure.together, figure.tokens)
    return perf_counter() - started


def _most_memory() -> int | None:
    """None where the system does not tell."""
    with suppress(OSError), open("/proc/self/status") as status:
        return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")), None)
    return None
