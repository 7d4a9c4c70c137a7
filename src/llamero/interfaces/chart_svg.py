"""Charts as SVG, and as one HTML file that shows values where the pointer is and asks nothing of any server."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

from llamero.interfaces.chart import COLOURS, GRID, INK, PAPER, WIDTH, Chart, Dot, Line, Text
from llamero.interfaces.curves import Curve, thin

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML


def svg(drawn: Chart, title: str) -> str:
    """The chart as an SVG document."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _svg(drawn, title)


def _svg(drawn: Chart, title: str) -> str:
    shapes = "\n".join(map(_shape, drawn.shapes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {drawn.height}" width="{WIDTH}" '
        f'height="{drawn.height}" role="img" font-family="sans-serif" font-size="13">\n<title>{_text(title)}</title>\n'
        f'<rect width="100%" height="100%" fill="{PAPER}"/>\n{shapes}\n</svg>\n'
    )


def _shape(shape: Line | Dot | Text) -> str:
    if isinstance(shape, Dot):
        return f'<circle cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius}" fill="{shape.colour}"/>'
    if isinstance(shape, Text):
        place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}"'
        return f'<text {place} fill="{shape.colour}">{_text(shape.words)}</text>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    opacity = f' stroke-opacity="{shape.opacity}"' if shape.opacity < 1 else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"'
        f'{opacity} stroke-linejoin="round"/>'
    )


def _text(words: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", words))


def html(drawn: Chart, fields: Sequence[Sequence[Curve]], unit: str, title: str) -> str:
    """A page that is whole in itself: the drawing, the values behind it, and a line that follows the pointer."""
    data = {
        "unit": unit,
        "panels": [
            {"x": [panel.x(panel.left), panel.x(panel.right)], "left": panel.left, "right": panel.right,
             "y": [panel.y(panel.high), panel.y(panel.low)], "low": panel.low, "high": panel.high}
            for panel in drawn.panels
        ],
        "curves": [[_values(curve, index) for index, curve in enumerate(curves)] for curves in fields],
    }  # fmt: skip
    told = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # no text of ours may end the script
    return _PAGE.format(title=_text(title), drawing=_svg(drawn, title), data=told, grid=GRID, ink=INK)


def _values(curve: Curve, index: int) -> dict[str, object]:
    points = [(x, y) for x, y in thin(curve.x, curve.smooth) if y == y]
    return {"run": curve.run, "colour": COLOURS[index % len(COLOURS)], "points": points}


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ margin: 0; font: 13px sans-serif; color: {ink}; }}
#chart {{ position: relative; max-width: 1200px; margin: auto; }}
svg {{ display: block; width: 100%; height: auto; }}
#rule, #told {{ position: absolute; pointer-events: none; display: none; }}
#rule {{ border-left: 1px solid {ink}; }}
#told {{ background: #ffffffee; border: 1px solid {grid}; padding: 4px 8px; white-space: pre; }}
</style>
</head>
<body>
<div id="chart">
{drawing}<div id="rule"></div><div id="told"></div>
</div>
<script type="application/json" id="data">{data}</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const chart = document.getElementById("chart"), drawing = chart.querySelector("svg");
const rule = document.getElementById("rule"), told = document.getElementById("told");

// The last point of a curve that is not right of x.
function before(points, x) {{
  let low = 0, high = points.length - 1;
  while (low < high) {{
    const middle = (low + high + 1) >> 1;
    if (points[middle][0] <= x) low = middle; else high = middle - 1;
  }}
  return points[low];
}}

function show(event) {{
  const box = drawing.getBoundingClientRect(), scale = box.width / drawing.viewBox.baseVal.width;
  const px = (event.clientX - box.left) / scale, py = (event.clientY - box.top) / scale;
  const number = data.panels.findIndex(panel => py >= panel.y[0] && py <= panel.y[1]);
  const panel = data.panels[number];
  const outside = !panel || px < panel.x[0] || px > panel.x[1];
  rule.style.display = told.style.display = outside ? "none" : "block";
  if (outside) return;
  const x = panel.left + (px - panel.x[0]) / (panel.x[1] - panel.x[0]) * (panel.right - panel.left);
  told.textContent = Number(x.toPrecision(5)).toLocaleString("en") + " " + data.unit;
  for (const curve of data.curves[number]) {{
    if (!curve.points.length) continue;
    const line = document.createElement("div"), value = before(curve.points, x)[1];
    line.style.color = curve.colour;
    line.textContent = Number(value.toPrecision(6)) + "  " + curve.run;
    told.appendChild(line);
  }}
  rule.style.left = px * scale + "px";
  rule.style.top = panel.y[0] * scale + "px";
  rule.style.height = (panel.y[1] - panel.y[0]) * scale + "px";
  const right = px * scale + 12 + told.offsetWidth > box.width;
  told.style.left = (right ? px * scale - 12 - told.offsetWidth : px * scale + 12) + "px";
  told.style.top = Math.min(py * scale + 12, box.height - told.offsetHeight) + "px";
}}
chart.addEventListener("pointermove", show);
chart.addEventListener("pointerleave", () => {{ rule.style.display = told.style.display = "none"; }});
</script>
</body>
</html>
"""
