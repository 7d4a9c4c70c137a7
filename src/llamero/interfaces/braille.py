"""Curves as text: braille characters have two by four dots each, enough for a small plot on any terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of U+2800, by row and column


def bounds(curves: Sequence[Points]) -> tuple[float, float, float, float] | None:
    """The smallest and largest x, and y, of all points that are finite; None where there is none."""
    points = [point for curve in curves for point in curve if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not points:
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), max(xs), min(ys), max(ys)


def braille(curves: Sequence[Points], width: int, height: int) -> list[list[tuple[str, int]]]:
    """Rows, top to bottom, of (character, which curve it is of); -1 where there is none.

    width, height: in characters. Points follow one another from left to right; a gap is a point that is not finite.
    """
    dots = [[0] * width for _ in range(height)]
    owner = [[-1] * width for _ in range(height)]
    frame = bounds(curves)
    for number, curve in enumerate(curves if frame else ()):
        for column, row in _dots(curve, frame or (0, 0, 0, 0), 2 * width, 4 * height):
            dots[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
            owner[row // 4][column // 2] = number
    pairs = [zip(*row, strict=True) for row in zip(dots, owner, strict=True)]
    return [[(chr(0x2800 + mask) if mask else " ", who) for mask, who in row] for row in pairs]


def _dots(curve: Points, frame: tuple[float, float, float, float], columns: int, rows: int) -> list[tuple[int, int]]:
    """The dots of one curve, its points joined by lines."""
    left, right, low, high = frame
    found: list[tuple[int, int]] = []
    last: tuple[int, int] | None = None
    for x, y in curve:
        if not (math.isfinite(x) and math.isfinite(y)):
            last = None
            continue
        here = (
            round((x - left) / ((right - left) or 1) * (columns - 1)),
            round((high - y) / ((high - low) or 1) * (rows - 1)) if high > low else rows // 2,
        )
        start = last or here
        length = max(abs(here[0] - start[0]), abs(here[1] - start[1]), 1)
        for part in range(length + 1):
            column, row = (round(a + (b - a) * part / length) for a, b in zip(start, here, strict=True))
            found.append((column, row))
        last = here
    return found
