"""Curves from the journals of runs: one field over steps, tokens or time, smoothed, and thinned to what can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, SettingError, nearest
from llamero.training.journal import Log, read

Axis = Literal["step", "tokens", "time"]
UNITS: dict[Axis, str] = {"step": "steps", "tokens": "tokens", "time": "hours"}
_SEEN = 1000  # stretches of a curve that a chart can tell apart
_PARTS = 100  # averaged is over this part of a run unless said otherwise
_SMOOTH = {"rate", "tokens"}  # by themselves

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One field of one run: x (n,) rising, y (n,) as it was, smooth (n,) averaged.

    held_out: (m, 2), x and loss on held-out text.
    """

    run: str
    field: str
    x: Floats
    y: Floats
    smooth: Floats
    held_out: Floats


def curves(
    runs: Sequence[Path], fields: Sequence[str], axis: Axis, smooth: int = 0, skip: int = 0
) -> list[list[Curve]]:
    """For each field the curves of all runs.

    runs: folders or journals. smooth: steps to average over; 0 is a hundredth of the run. skip: steps to leave out at
    the beginning. Raises SettingError for a field that a run does not have.
    """
    if axis not in get_args(Axis):
        raise SettingError(f"there is no axis {axis!r} ({nearest(axis, get_args(Axis))})")
    if smooth < 0 or skip < 0:
        raise SettingError(f"smooth ({smooth}) and skip ({skip}) cannot be negative")
    logs = [(name, read(path)) for name, path in zip(names(runs), runs, strict=True)]
    return [[_curve(name, log, field, axis, smooth, skip) for name, log in logs] for field in fields]


def names(runs: Sequence[Path]) -> list[str]:
    """What to call each run: its folder's name, with so many of the folders above as it takes to tell them apart."""
    parts = [(run.resolve() if run.is_dir() else run.resolve().parent).parts for run in runs]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        found = ["/".join(part[-depth:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return [str(run) for run in runs]


def _curve(run: str, log: Log, field: str, axis: Axis, smooth: int, skip: int) -> Curve:
    steps = [_with_speed(entry) for entry in log.steps if entry["step"] > skip]
    if not steps:
        raise FormatError(f"{run}: the journal has no steps" + (f" after step {skip}" if skip else ""))
    known = {key for entry in (steps[0], steps[-1]) for key, value in entry.items() if _is_number(value)}
    if field not in known:
        raise SettingError(f"{run}: its steps have no {field!r} ({nearest(field, known)})")
    place = dict(zip((entry["step"] for entry in log.steps), _along(log.steps, axis), strict=True))
    x = np.array([place[entry["step"]] for entry in steps])
    y = np.array([entry[field] if _is_number(entry.get(field)) else math.nan for entry in steps], np.float64)
    held_out = [
        (place[event["step"]], event["loss"])
        for event in log.events
        if field == "loss" and event["event"] == "validation" and _is_number(event.get("loss"))
        if event["step"] in place and event["step"] > skip
    ]
    span = smooth or (1 if field in _SMOOTH else max(len(y) // _PARTS, 1))
    return Curve(run, field, x, y, average(y, span), np.array(held_out, np.float64).reshape(-1, 2))


def _with_speed(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with its tokens a second, which follow from what a journal has."""
    tokens, seconds = entry.get("tokens"), entry.get("seconds")
    if not (_is_number(tokens) and _is_number(seconds) and seconds):
        return entry
    return {"tokens_per_second": tokens / seconds} | entry


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _along(steps: Iterable[dict[str, Any]], axis: Axis) -> list[float]:
    """Where each step stands on the axis, at its end."""
    if axis == "step":
        return [entry["step"] for entry in steps]
    name, unit = ("tokens", 1.0) if axis == "tokens" else ("seconds", 3600.0)
    taken = [entry.get(name) for entry in steps]
    return list(np.cumsum([float(value) if _is_number(value) else 0.0 for value in taken]) / unit)


def average(y: Floats, steps: int) -> Floats:
    """Running means that forget by 2 / (steps + 1) with each step, corrected for their start.

    What is not finite counts for nothing and stays a gap.
    """
    keep = 1 - 2 / (steps + 1)
    total = weight = 0.0
    means = np.full(len(y), math.nan)
    for index, value in enumerate(y.tolist()):
        if math.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
            means[index] = total / weight
    return means


def thin(x: Floats, y: Floats, most: int = _SEEN) -> list[tuple[float, float]]:
    """At most 2 * `most` + 2 points that look like all: the ends, and the lowest and the highest of each stretch."""
    if len(x) <= 2 * most:
        return list(zip(x.tolist(), y.tolist(), strict=True))
    kept = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), most):
        values = y[stretch]
        if np.isfinite(values).any():
            kept |= {int(stretch[np.nanargmin(values)]), int(stretch[np.nanargmax(values)])}
        else:
            kept.add(int(stretch[0]))
    return [(float(x[index]), float(y[index])) for index in sorted(kept)]
