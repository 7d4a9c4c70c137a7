"""Charts as PNG, by Pillow: drawn at twice the size and shrunk, so that slanted lines are smooth."""

from __future__ import annotations

import io
from typing import Any

from llamero.errors import SettingError
from llamero.interfaces.chart import PAPER, WIDTH, Chart, Dot, Line, Text

_FINE = 2  # drawn larger by
_LARGER = 2  # and left larger by, for screens with fine pixels
_ANCHORS = {"start": "ls", "end": "rs", "middle": "ms"}


def png(drawn: Chart) -> bytes:
    """The chart as a file's bytes. Raises SettingError where Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as error:
        raise SettingError('PNG needs Pillow: pip install "llamero[plot]", or choose .svg or .html') from error
    size = _FINE * _LARGER
    image = Image.new("RGB", (WIDTH * size, drawn.height * size), PAPER)
    font = ImageFont.load_default(13 * size)
    for shape in drawn.shapes:
        if isinstance(shape, Line) and shape.opacity < 1:
            _pale(image, shape, size)
        else:
            _draw(ImageDraw.Draw(image), shape, font, size)
    file = io.BytesIO()
    image.resize((WIDTH * _LARGER, drawn.height * _LARGER), Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw(pen: Any, shape: Line | Dot | Text, font: Any, size: int) -> None:
    if isinstance(shape, Text):
        place = (shape.x * size, shape.y * size)
        pen.text(place, shape.words, fill=shape.colour, font=font, anchor=_ANCHORS[shape.anchor])
    elif isinstance(shape, Dot):
        x, y, radius = shape.x * size, shape.y * size, shape.radius * size
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.colour)
    else:
        points = [(x * size, y * size) for x, y in shape.points]
        pen.line(points, fill=shape.colour, width=max(round(shape.width * size), 1), joint="curve")


def _pale(image: Any, shape: Line, size: int) -> None:
    """A line through which one sees what lies below."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", image.size, 0)
    points = [(x * size, y * size) for x, y in shape.points]
    ImageDraw.Draw(mask).line(points, fill=round(255 * shape.opacity), width=max(round(shape.width * size), 1))
    image.paste(shape.colour, mask=mask)
