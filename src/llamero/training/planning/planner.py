"""Before a run: what it will need and take, and the way to lay it out that fits and is fastest. Numbers, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from llamero.errors import SettingError
from llamero.training.planning.hardware import Hardware
from llamero.training.planning.memory import Memory, memory
from llamero.training.planning.operations import training_operations
from llamero.training.planning.pace import Pace, pace
from llamero.training.planning.task import Task, Way
from llamero.training.team.layout import Layout

_ALIKE = 1.02  # two ways whose times differ by less are equally fast
_RECOMPUTE = (0, 4, 2, 1)  # every so many layers, tried in this order
_EASY = 0.85  # of the usable memory; more is less sure to fit
_MOST = 1 << 16  # devices to look for


@dataclass(frozen=True)
class Plan:
    """A task, a way to do it, and what that comes to on this hardware. operations: of one token, forward and back."""

    task: Task
    way: Way
    hardware: Hardware
    memory: Memory
    pace: Pace
    operations: float

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.hardware.usable

    @property
    def steps(self) -> int:
        return max(round(self.task.tokens / self.task.batch), 1)

    @property
    def seconds(self) -> float:
        """Of the whole run; its validation and its saving are not counted."""
        return self.steps * self.pace.total

    @property
    def speed(self) -> float:
        """Tokens a second on all devices."""
        return self.task.batch / self.pace.total

    @property
    def device_hours(self) -> float:
        return self.seconds * self.way.devices / 3600

    @property
    def rate(self) -> float:
        """Operations a second of one device, of those that any program must do."""
        return self.speed * self.operations / self.way.devices

    @property
    def utilisation(self) -> float:
        """The rate as a share of the peak (Chowdhery et al. 2022, section 4.1, here with causal attention)."""
        return self.rate / self.hardware.peak[self.task.dtype]

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        told = ("fits", "steps", "seconds", "speed", "device_hours", "rate", "utilisation")
        parts = {
            "memory": asdict(self.memory) | {"total": self.memory.total, "copy": self.memory.copy},
            "pace": asdict(self.pace),
        }
        parts["pace"]["total"] = self.pace.total
        hardware = {"kind": self.hardware.kind, "memory": self.hardware.memory, "usable": self.hardware.usable}
        hardware |= {"peak": self.hardware.peak[self.task.dtype], "share": self.hardware.share}
        values = {"task": asdict(self.task), "way": asdict(self.way), "hardware": hardware, **parts}
        return values | {"operations": self.operations} | {name: getattr(self, name) for name in told}


def plan(task: Task, way: Way, hardware: Hardware) -> Plan:
    """What this way of doing the task comes to. Raises SettingError for a layout that does not divide the task."""
    way.layout.check(task.config, task.context, task.sequences)
    operations = training_operations(task.config, task.context)
    return Plan(task, way, hardware, memory(task, way, hardware.own_kernels), pace(task, way, hardware), operations)


def propose(
    task: Task,
    devices: int,
    hardware: Hardware,
    layout: Layout | None = None,
    micro: int = 0,
    recompute: int | None = None,
) -> Plan:
    """The fastest way that fits these devices; where none fits, the one that needs the least memory.

    What is given is kept to. Raises SettingError where the devices cannot share the task at all.
    """
    if layout is not None and layout.devices != devices:
        raise SettingError(f"the layout {layout} is of {layout.devices} devices, but there are {devices}")
    if layout is not None:
        layout.check(task.config, task.context, task.sequences)
    plans = [
        found
        for one in ([layout] if layout else _layouts(task, devices, hardware))
        for every in (_RECOMPUTE if recompute is None else [recompute])
        for found in [_widest(task, one, every, micro, hardware)]
    ]
    if not plans:
        raise SettingError(
            f"{devices} devices cannot share steps of {task.sequences} sequences of {task.context} tokens evenly; "
            "take a number of devices that divides them, or another batch"
        )
    fitting = [found for found in plans if found.fits]
    if not fitting:
        return min(plans, key=lambda found: found.memory.total)
    fastest = min(found.pace.total for found in fitting)
    return min((found for found in fitting if found.pace.total <= fastest * _ALIKE), key=_simplicity)


def _simplicity(found: Plan) -> tuple[float, ...]:
    """What to choose by among ways that are equally fast: few cuts, few nodes that share a state, memory to spare."""
    layout = found.way.layout
    nodes = -(-layout.tensor * layout.context * layout.shard // found.hardware.node)
    full = found.memory.total > _EASY * found.hardware.usable
    again = found.way.again(found.task.config.layers)
    return layout.context, layout.tensor, again, nodes, full, layout.shard, found.pace.total


def _widest(task: Task, layout: Layout, every: int, micro: int, hardware: Hardware) -> Plan:
    """With the most sequences at once that fit, or with one."""
    share = task.sequences // layout.shares
    most = max(min(share, hardware.tokens * layout.context // task.context), 1)
    counts = [micro] if micro else [count for count in range(most, 0, -1) if share % count == 0]
    for count in counts:
        found = plan(task, Way(layout, count, every), hardware)
        if found.fits:
            break
    return found


def _layouts(task: Task, devices: int, hardware: Hardware) -> Iterator[Layout]:
    """All that divide the task, with matrices cut inside a node only."""
    for tensor in _divisors(min(devices, hardware.node), devices):
        for context in _divisors(devices // tensor, devices // tensor):
            left = devices // tensor // context
            for shard in _divisors(left, left):
                layout = Layout(left // shard, shard, context, tensor)
                try:
                    layout.check(task.config, task.context, task.sequences)
                except SettingError:
                    continue
                yield layout


def _divisors(most: int, of: int) -> list[int]:
    return [number for number in range(1, most + 1) if of % number == 0]


def remedies(found: Plan) -> list[str]:
    """What would make a plan fit that does not, the smallest change first."""
    task, way, devices = found.task, found.way, found.way.devices
    tries: list[tuple[str, Way]] = []
    if way.micro > 1:
        tries.append(("micro 1", replace(way, micro=1)))
    for every in _RECOMPUTE[1:]:
        tries.append((f"recompute {every}", replace(way, recompute=every)))
        tries.append((f"micro 1 and recompute {every}", replace(way, micro=1, recompute=every)))
    told = [
        f"{name}: {other.memory.total / 2**30:.3g} GiB"
        for name, way in tries
        if (other := plan(task, way, found.hardware)).fits
    ]
    return told[:1] + _more_devices(found, devices)


def _more_devices(found: Plan, devices: int) -> list[str]:
    while devices <= _MOST:
        try:
            other = propose(found.task, devices, found.hardware)
        except SettingError:
            other = found
        if other.fits:
            way = other.way
            return [f"{devices} devices laid out as {way.layout}, micro {way.micro}, recompute {way.recompute}"]
        devices *= 2
    return []
