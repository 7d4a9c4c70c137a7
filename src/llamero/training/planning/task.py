"""What is to be trained, and the ways to do it that differ in speed and memory but not in the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from llamero.errors import SettingError, nearest
from llamero.model.config import Config
from llamero.training.planning.hardware import DType
from llamero.training.team.layout import Layout


@dataclass(frozen=True)
class Task:
    """A model, and the tokens that it is trained on. batch: tokens of a step, whole windows of `context` tokens."""

    config: Config
    context: int
    batch: int
    tokens: float
    dtype: DType = "f32"
    optimizer: Literal["adamw", "muon"] = "adamw"

    def __post_init__(self) -> None:
        if self.context < 1 or self.batch < 1 or not self.tokens > 0:
            raise SettingError(
                f"context ({self.context}), batch ({self.batch}) and tokens ({self.tokens}) must be positive"
            )
        if self.batch % self.context:
            near = max(round(self.batch / self.context), 1) * self.context
            raise SettingError(f"a batch of {self.batch} tokens is not whole windows of {self.context}; {near} is")
        for name, kind in (("dtype", DType), ("optimizer", Literal["adamw", "muon"])):
            if getattr(self, name) not in get_args(kind):
                raise SettingError(
                    f"{name} {getattr(self, name)!r}: {nearest(str(getattr(self, name)), get_args(kind))}"
                )

    @property
    def sequences(self) -> int:
        return self.batch // self.context


@dataclass(frozen=True)
class Pipeline:
    """Layers dealt out to `stages` of devices, each with `chunks` runs of them (Narayanan et al. 2021, section 2.2).

    llamero does not train like this; plans have it to be compared with runs that did.
    """

    stages: int = 1
    chunks: int = 1

    def __post_init__(self) -> None:
        if self.stages < 1 or self.chunks < 1:
            raise SettingError(f"a pipeline has stages ({self.stages}) and chunks ({self.chunks}) of at least 1")


@dataclass(frozen=True)
class Way:
    """How a step is done. micro: sequences of a device that are differentiated at once.

    recompute: of every so many layers, one keeps only its input and is computed again on the way back (Chen et al.
    2016); 0: none. As in pretrain.py.
    """

    layout: Layout = field(default_factory=Layout)
    micro: int = 1
    recompute: int = 0
    pipeline: Pipeline = field(default_factory=Pipeline)

    def __post_init__(self) -> None:
        if self.micro < 1 or self.recompute < 0:
            raise SettingError(f"micro ({self.micro}) must be at least 1, recompute ({self.recompute}) not negative")

    @property
    def devices(self) -> int:
        return self.layout.devices * self.pipeline.stages

    def again(self, layers: int) -> int:
        """How many of so many layers are computed again."""
        return -(-layers // self.recompute) if self.recompute else 0

    def rounds(self, task: Task) -> int:
        """Micro-batches of a step, one after another on a device."""
        return -(-task.sequences // (self.layout.shares * self.micro))
