"""Smaller batches at the beginning of a run (Llama 3, section 3.4.1): how many windows of what length each step has."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from llamero.errors import SettingError
from llamero.ops.protocol import Span
from llamero.training.data.batch import Batch, Source

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Stage:
    """From `step` on, a step has `batch` tokens in windows of `context`; before it were `tokens` tokens."""

    step: int
    tokens: int
    batch: int
    context: int


@dataclass(frozen=True)
class Ramp:
    """The stages of a run, first to last; the last has the batch and context of the run itself."""

    stages: tuple[Stage, ...]

    @classmethod
    def parse(cls, text: str, batch: int, context: int) -> Ramp:
        """Stages from "TOKENS:BATCH@CONTEXT,...", ending in the full batch of `batch` tokens.

        "0:4M@4096,252M:8M" begins with 4,000,000 tokens a step. A stage ends with the first step that reaches the next
        one's tokens. Raises SettingError for stages out of order or that do not divide the last.
        """
        given = [_stage(part, context) for part in text.split(",")] if text else [(0, batch, context)]
        stages: list[Stage] = []
        for tokens, size, length in given:
            if stages:
                last = stages[-1]
                steps = -(-(tokens - last.tokens) // last.batch)
                if steps < 1:
                    raise SettingError(f"ramp {text!r}: each stage must begin after the one before")
                stages.append(Stage(last.step + steps, last.tokens + steps * last.batch, size, length))
            elif tokens:
                raise SettingError(f"ramp {text!r}: the first stage begins at 0 tokens")
            else:
                stages.append(Stage(0, 0, size, length))
        _check(stages, text, batch, context)
        return cls(tuple(stages))

    @property
    def unit(self) -> int:
        """Tokens of the smallest batch, of which all others are multiples."""
        return min(stage.batch for stage in self.stages)

    def at(self, step: int) -> Stage:
        """The stage in which a step lies."""
        return max((stage for stage in self.stages if stage.step <= step), key=lambda stage: stage.step)

    def before(self, step: int) -> int:
        """Tokens of all steps before this one."""
        stage = self.at(step)
        return stage.tokens + (step - stage.step) * stage.batch


class Ramped:
    """A `Source` whose batches grow: each takes the next units of a source of `ramp.unit` tokens, none of them twice.

    Where a stage's context is shorter, rows are cut into several; a document cut so begins anew.
    """

    def __init__(self, units: Source, ramp: Ramp) -> None:
        if units.context * units.sequences != ramp.unit:
            raise SettingError(f"a ramp of units of {ramp.unit} tokens needs a source of as many a step")
        last = ramp.stages[-1]
        self.context, self.sequences = last.context, last.batch // last.context
        self._units, self._ramp = units, ramp

    @property
    def origin(self) -> dict[str, Any]:
        """What decides every batch."""
        stages = ",".join(f"{stage.step}:{stage.batch}@{stage.context}" for stage in self._ramp.stages)
        return self._units.origin | {"sequences": self.sequences, "ramp": stages}

    def at(self, step: int) -> Batch:
        """The batch of a step, whatever was asked before."""
        parts = [self._units.at(number) for number in self._numbers(step)]
        context = self._ramp.at(step).context
        return Batch(
            inputs=np.concatenate([part.inputs for part in parts]).reshape(-1, context),
            targets=np.concatenate([part.targets for part in parts]).reshape(-1, context),
            counts=np.concatenate([part.counts for part in parts]).reshape(-1, context),
            spans=_cut(tuple(span for part in parts for span in part.spans), context),
        )

    def documents(self, step: int) -> list[str]:
        """Which documents the step's batch holds."""
        named = [name for number in self._numbers(step) for name in self._units.documents(number)]
        return list(dict.fromkeys(named))

    def _numbers(self, step: int) -> range:
        first = self._ramp.before(step) // self._ramp.unit
        return range(first, first + self._ramp.at(step).batch // self._ramp.unit)


def _cut(spans: tuple[Span, ...], context: int) -> tuple[Span, ...]:
    """Spans that end where rows of `context` do."""
    ends = set(accumulate(span.length for span in spans))
    borders = sorted(ends | set(range(0, max(ends), context)) - {0})
    return tuple(Span(0, end - begin) for begin, end in zip([0, *borders], borders, strict=False))


def _stage(part: str, context: int) -> tuple[int, int, int]:
    try:
        tokens, _, rest = part.strip().partition(":")
        batch, _, length = rest.partition("@")
        return _number(tokens), _number(batch), int(length) if length else context
    except ValueError as error:
        raise SettingError(
            f"ramp: {part!r} is not TOKENS:BATCH or TOKENS:BATCH@CONTEXT, such as 252M:8388608@8192"
        ) from error


def _number(text: str) -> int:
    digits = text.rstrip("KMBT")
    return round(float(digits) * _UNITS[text[len(digits) :]])


def _check(stages: list[Stage], text: str, batch: int, context: int) -> None:
    unit = min(stage.batch for stage in stages)
    if (stages[-1].batch, stages[-1].context) != (batch, context):
        raise SettingError(f"ramp {text!r}: the last stage must be the run's own batch and context, {batch}@{context}")
    for stage in stages:
        if stage.context < 1 or context % stage.context or stage.batch % unit or unit % context:
            raise SettingError(
                f"ramp {text!r}: {stage.batch}@{stage.context} does not fit: batches must be multiples of the "
                f"smallest, which is a whole number of windows of {context}, and contexts must divide {context}"
            )
