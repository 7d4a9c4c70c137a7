"""How long a step takes, by what the devices are busy with or wait for.

What devices of one node exchange while they compute is in the hardware's `share`. On top come what is computed twice,
bubbles of a pipeline, exchanges that nothing can hide, and those that take longer than what hides them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from llamero.training.planning.hardware import Hardware
from llamero.training.planning.operations import forward_operations, parameters, training_operations
from llamero.training.planning.task import Task, Way


@dataclass(frozen=True)
class Pace:
    """Seconds of one step. sequences: keys and values on their way; state: shards and gradients that wait."""

    computing: float
    again: float
    bubbles: float
    matrices: float
    sequences: float
    state: float

    @property
    def total(self) -> float:
        return float(sum(asdict(self).values()))


def pace(task: Task, way: Way, hardware: Hardware) -> Pace:
    """The time of one step of this task, done this way."""
    rate = way.devices * hardware.peak[task.dtype] * hardware.share  # operations a second
    computing = task.batch * training_operations(task.config, task.context) / rate
    layers = task.config.layers
    forward = forward_operations(task.config, task.context) - 2 * task.config.vocab * task.config.dim  # not the head
    again = task.batch * forward * way.again(layers) / layers / rate
    stages, chunks = way.pipeline.stages, way.pipeline.chunks
    bubbles = (computing + again) * (stages - 1) / (chunks * way.rounds(task))  # Narayanan et al. 2021, section 2.2.2
    return Pace(
        computing=computing,
        again=again,
        bubbles=bubbles,
        matrices=_matrices(task, way, hardware),
        sequences=_sequences(task, way, hardware),
        state=max(0.0, _state(task, way, hardware) - computing - again),
    )


def _width(task: Task) -> int:
    return 2 if task.dtype == "bf16" else 4


def _bandwidth(inner: int, members: int, hardware: Hardware) -> float:
    """Bytes a second for each of `members` devices that stand `inner` places apart.

    Within a node the link's. Beyond, a node's members take in what they lack through their networks together.
    """
    if inner * members <= hardware.node:
        return hardware.link
    together = max(hardware.node // inner, 1)
    return min(together * hardware.network, hardware.link)


def _layers(task: Task, way: Way) -> float:
    return task.config.layers / way.pipeline.stages


def _matrices(task: Task, way: Way, hardware: Hardware) -> float:
    """Sums over cut matrices, two forward and two backward in each layer (Shoeybi et al. 2019, section 3).

    Inside a node they are in the hardware's share.
    """
    cut = way.layout.tensor
    if cut <= hardware.node:
        return 0.0
    sums = 4 * _layers(task, way) * task.config.dim * _width(task) * 2 * (cut - 1) / cut  # bytes a token
    tokens = task.batch / way.layout.shares / way.layout.context
    return tokens * sums / _bandwidth(1, cut, hardware)


def _sequences(task: Task, way: Way, hardware: Hardware) -> float:
    """Keys and values gathered before attention, again on the way back, and their gradients summed.

    All of it is waited for (Llama 3, section 3.3.2).
    """
    cut, config = way.layout.context, task.config
    rows = 2 * config.kv_heads * config.head_dim / way.layout.tensor * _width(task)  # bytes a token
    gathered = task.batch / way.layout.shares * rows * (cut - 1) / cut * _layers(task, way)
    return 3 * gathered / _bandwidth(way.layout.tensor, cut, hardware)


def _state(task: Task, way: Way, hardware: Hardware) -> float:
    """Shards gathered for each micro-batch, forward and backward; gradients scattered, then summed over replicas.

    A pipeline keeps what it has gathered (Llama 3, section 3.3.2).
    """
    layout = way.layout
    inner = layout.tensor * layout.context
    here = parameters(task.config) / (layout.tensor * way.pipeline.stages)  # weights of a device's layers
    gathers = 2 * way.rounds(task) if way.pipeline.stages == 1 else 1
    moved = here * (gathers * _width(task) + 4) * (layout.shard - 1) / layout.shard
    sharding = moved / _bandwidth(inner, layout.shard, hardware)
    summed = 2 * here / layout.shard * 4 * (layout.replicate - 1) / layout.replicate
    return sharding + summed / _bandwidth(inner * layout.shard, layout.replicate, hardware)
