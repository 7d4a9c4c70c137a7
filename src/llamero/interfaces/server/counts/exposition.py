"""Prometheus' text format, version 0.0.4: families of samples, written and put together. Knows nothing of servers.

Written here rather than with prometheus_client: that brings a registry for the whole process, which two servers in one
process would share, and files on disk for many processes; what is needed of it is this page. The tests read the output
with its parser.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Family:
    """A metric: its samples are (what is added to the name, labels, value)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)


class Counter:
    """Counts by label values; also a gauge, where it is set."""

    def __init__(
        self, name: str, what: str, labels: Sequence[str] = (), kind: Literal["counter", "gauge"] = "counter"
    ) -> None:
        self._name, self._help, self._labels, self._kind = name, what, tuple(labels), kind
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + by

    def set(self, *labels: str, to: float) -> None:
        self._values[labels] = to

    def family(self) -> Family:
        rows = [("", tuple(zip(self._labels, key, strict=True)), value) for key, value in self._values.items()]
        return Family(self._name, self._kind, self._help, rows)


class Histogram:
    """How often values fell below each bound, by label values."""

    def __init__(self, name: str, what: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        """bounds: upper ones, rising; infinity is added."""
        self._name, self._help, self._labels, self._bounds = name, what, tuple(labels), tuple(bounds)
        self._cells: dict[tuple[str, ...], _Cells] = {}

    def observe(self, value: float, *labels: str) -> None:
        cells = self._cells.get(labels)
        if cells is None:
            cells = self._cells[labels] = _Cells([0] * (len(self._bounds) + 1))
        cells.counts[bisect_left(self._bounds, value)] += 1
        cells.sum += value

    def family(self) -> Family:
        family = Family(self._name, "histogram", self._help)
        for key, cells in self._cells.items():
            labels: Labels = tuple(zip(self._labels, key, strict=True))
            below = 0
            for bound, count in zip((*self._bounds, float("inf")), cells.counts, strict=True):
                below += count
                family.samples.append(("_bucket", (*labels, ("le", _number(bound))), below))
            family.samples.append(("_sum", labels, cells.sum))
            family.samples.append(("_count", labels, below))
        return family


@dataclass
class _Cells:
    counts: list[int]
    sum: float = 0.0


def render(families: Iterable[Family]) -> str:
    """The text that a Prometheus server reads."""
    lines = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape(family.help, quotes=False)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [f"{family.name}{end}{_braces(labels)} {_number(value)}" for end, labels, value in family.samples]
    return "\n".join(lines) + "\n"


def together(parts: Iterable[tuple[str, Iterable[Family]]], label: str) -> list[Family]:
    """Families of several sources as one, each sample marked with its source's name."""
    found: dict[str, Family] = {}
    for source, families in parts:
        for family in families:
            whole = found.setdefault(family.name, Family(family.name, family.kind, family.help))
            whole.samples.extend((end, ((label, source), *labels), value) for end, labels, value in family.samples)
    return list(found.values())


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
