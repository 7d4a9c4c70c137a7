"""A chart of curves as plain shapes, drawn by chart_svg.py and chart_png.py alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llamero.errors import SettingError
from llamero.interfaces.braille import bounds
from llamero.interfaces.curves import Curve, thin

# Okabe and Ito's colours, which most people can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#a0a000")
INK, GRID, PAPER = "#222222", "#dddddd", "#ffffff"
WIDTH, HEIGHT = 860, 340  # of one panel, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 20, 30, 44
_LETTER = 7.2  # mean width in pixels


@dataclass(frozen=True)
class Line:
    """Joined points in pixels from the upper left corner."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float
    opacity: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    radius: float
    colour: str


@dataclass(frozen=True)
class Text:
    """Words that begin, end or have their middle ("start", "end", "middle") at a point of their base line."""

    x: float
    y: float
    words: str
    anchor: str = "start"
    colour: str = INK


@dataclass(frozen=True)
class Panel:
    """Axes of one field: the stretch of x and y that is shown, and the pixel above its upper edge."""

    field: str
    left: float
    right: float
    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.top + HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


@dataclass(frozen=True)
class Chart:
    """Shapes to draw in order, on `height` pixels of WIDTH."""

    shapes: tuple[Line | Dot | Text, ...]
    panels: tuple[Panel, ...]
    height: int


def chart(fields: Sequence[Sequence[Curve]], unit: str) -> Chart:
    """One panel below the other for each field, with the curves of all runs. unit: of the x axis.

    Raises SettingError for a field without a finite value.
    """
    shapes, head = _legend([curve.run for curve in fields[0]])
    panels = []
    for number, curves in enumerate(fields):
        panel = _panel(curves, head + number * HEIGHT)
        panels.append(panel)
        shapes += _axes(panel, unit)
        for index, curve in enumerate(curves):
            shapes += _curve(curve, panel, COLOURS[index % len(COLOURS)])
    return Chart(tuple(shapes), tuple(panels), head + len(fields) * HEIGHT)


def _legend(runs: Sequence[str]) -> tuple[list[Line | Dot | Text], int]:
    """The runs and their colours, and how high that is."""
    shapes: list[Line | Dot | Text] = []
    x, y = float(_LEFT), 20.0
    for index, run in enumerate(runs):
        name = run if len(run) <= 60 else f"...{run[-57:]}"
        needed = 34 + _LETTER * len(name)
        if x + needed > WIDTH and x > _LEFT:
            x, y = float(_LEFT), y + 20
        shapes.append(Line(((x, y - 4), (x + 18, y - 4)), COLOURS[index % len(COLOURS)], 3))
        shapes.append(Text(x + 24, y, name))
        x += needed
    return shapes, int(y)


def _panel(curves: Sequence[Curve], top: float) -> Panel:
    """The stretch that holds the smoothed curves and what was held out; single spikes may leave it."""
    held = [list(map(tuple, curve.held_out.tolist())) for curve in curves]
    smooth = [list(zip(curve.x.tolist(), curve.smooth.tolist(), strict=True)) for curve in curves]
    found = bounds([*smooth, *held])
    if found is None:
        raise SettingError(f"{curves[0].field} has no finite value to draw")
    left, right, low, high = found
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    return Panel(curves[0].field, left, right if right > left else left + 1, low - room, high + room, top)


def _axes(panel: Panel, unit: str) -> list[Line | Dot | Text]:
    shapes: list[Line | Dot | Text] = [Text(_LEFT, panel.top + _TOP - 10, panel.field)]
    floor, roof = panel.y(panel.low), panel.y(panel.high)
    for value in ticks(panel.low, panel.high):
        y = panel.y(value)
        shapes.append(Line(((_LEFT, y), (WIDTH - _RIGHT, y)), GRID, 1))
        shapes.append(Text(_LEFT - 8, y + 4, short(value), "end"))
    for value in ticks(panel.left, panel.right):
        x = panel.x(value)
        shapes.append(Line(((x, roof), (x, floor)), GRID, 1))
        shapes.append(Text(x, floor + 18, short(value), "middle"))
    shapes.append(Text(WIDTH - _RIGHT, floor + 36, unit, "end"))
    return shapes


def _curve(curve: Curve, panel: Panel, colour: str) -> list[Line | Dot | Text]:
    """As it was, pale and cut at the panel's edges; averaged; and dots where it was measured on held-out text."""
    shapes: list[Line | Dot | Text] = []
    for values, width, opacity in ((curve.y, 1.0, 0.25), (curve.smooth, 2.0, 1.0)):
        part: list[tuple[float, float]] = []
        for x, y in [*thin(curve.x, values), (math.nan, math.nan)]:
            if math.isfinite(y):
                part.append((panel.x(x), panel.y(min(max(y, panel.low), panel.high))))
            elif part:
                shapes.append(Line(tuple(part), colour, width, opacity))
                part = []
    shapes += [Dot(panel.x(x), panel.y(y), 3.5, colour) for x, y in curve.held_out.tolist() if math.isfinite(y)]
    return shapes


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """At most so many round numbers in a stretch, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number in few letters, such as 0.25, 1.5M or 3e-05."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"
