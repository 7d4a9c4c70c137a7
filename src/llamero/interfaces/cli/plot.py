"""`llamero plot`: the curves of one or more training runs, as a picture, a page, or on the terminal."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from llamero.errors import SettingError
from llamero.formats.atomic import atomic_file
from llamero.interfaces.braille import bounds, braille
from llamero.interfaces.chart import chart, short
from llamero.interfaces.chart_svg import html, svg
from llamero.interfaces.cli.terminal import harmless
from llamero.interfaces.curves import UNITS, Axis, Curve, curves, thin

EXAMPLES = """\
examples:
  llamero plot runs/my                             the loss, on the terminal
  llamero plot runs/a runs/b --out compare.html    two runs in a page of its own; values where the pointer is
  llamero plot runs/* --x time --y loss,norm --out curves.svg
  llamero plot runs/my --skip 500 --smooth 100 --out end.png
  llamero plot runs/my --y tokens_per_second

A run is a folder that `llamero train` made, or its log.jsonl. Dots are losses on held-out text. Pale lines are single
steps, which may leave the picture; strong ones are averages. PNG needs Pillow: pip install "llamero[plot]".
"""
_ROWS = 12  # of a plot on the terminal
_INKS = (34, 33, 32, 35, 36, 31)  # of the terminal, one for each run


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, or their journals")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".html, .svg or .png (the terminal)")
    parser.add_argument("--x", default="step", choices=get_args(Axis), help="along steps, tokens or hours (step)")
    parser.add_argument("--y", default="loss", metavar="NAME,..", help="loss, norm, rate, ... (loss)")
    parser.add_argument("--smooth", type=int, default=0, metavar="N", help="average over N steps (a hundredth of them)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N steps (0)")


def run(args: argparse.Namespace) -> int:
    """Draw curves."""
    kind = args.out.suffix.lower() if args.out else ""
    if args.out and kind not in (".html", ".svg", ".png"):
        raise SettingError(f"{args.out}: a picture's name ends in .html, .svg or .png")
    fields = curves(args.runs, args.y.split(","), args.x, args.smooth, args.skip)
    if not args.out:
        for group in fields:
            _show(group, UNITS[args.x])
        return 0
    drawn, title = chart(fields, UNITS[args.x]), ", ".join(curve.run for curve in fields[0])
    if kind == ".png":
        from llamero.interfaces.chart_png import png

        picture = png(drawn)
    else:
        text = svg(drawn, title) if kind == ".svg" else html(drawn, fields, UNITS[args.x], title)
        picture = text.encode()
    with atomic_file(args.out) as file:
        file.write(picture)
    print(f"wrote {args.out}")
    return 0


def _show(group: Sequence[Curve], unit: str) -> None:
    """One field of all runs as a plot of braille, and its last values in words."""
    width = min(shutil.get_terminal_size().columns, 120) - 10
    points = [thin(curve.x, curve.smooth, width) for curve in group]
    frame = bounds(points)
    if frame is None:
        raise SettingError(f"{group[0].field} has no finite value to draw")
    left, right, low, high = frame
    colour = sys.stdout.isatty()
    for number, row in enumerate(braille(points, max(width, 10), _ROWS)):
        label = short(high) if number == 0 else short(low) if number == _ROWS - 1 else ""
        print(f"{label:>8} " + "".join(_dot(dot, who, colour) for dot, who in row).rstrip())
    print(f"{'':9}{short(left)}{short(right) + ' ' + unit:>{max(width, 10) - len(short(left))}}")
    for number, curve in enumerate(group):
        last = next((value for value in curve.smooth[::-1] if math.isfinite(value)), math.nan)
        held = f", held-out {curve.held_out[-1, 1]:.4f}" if len(curve.held_out) else ""
        mark = _dot("\u2501\u2501", number, colour)
        print(f"{'':9}{mark} {harmless(curve.run)}: {curve.field} {last:.6g}{held} after {short(curve.x[-1])} {unit}")


def _dot(text: str, who: int, colour: bool) -> str:
    return f"\x1b[{_INKS[who % len(_INKS)]}m{text}\x1b[0m" if colour and who >= 0 else text
