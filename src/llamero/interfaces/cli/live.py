"""A live view of a training run: its figures, its curve, its last words, redrawn twice a second beside the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from llamero.interfaces.braille import bounds, braille
from llamero.interfaces.chart import short
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import harmless
from llamero.interfaces.standing import Standing
from llamero.training.listener import Listener
from llamero.training.loop import Report
from llamero.training.planning.hardware import Hardware

_ROWS, _COLUMNS = 8, 100  # of the curve
_WORDS = 3  # lines of a sample
_PER_SECOND = 2


class LiveTerminal(Listener):
    """Draws on a terminal. A step only hands over its figures; drawing is another thread's work."""

    def __init__(
        self,
        memory: Callable[[], float],
        hardware: Callable[[], Hardware | None] = lambda: None,
        devices: int = 1,
        console: Console | None = None,
    ) -> None:
        self.standing = Standing(hardware, devices)
        self._memory = memory
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=_PER_SECOND, redirect_stderr=False
        )

    @contextmanager
    def stage(self, title: str, unit: Any) -> Iterator[Callable[[int, int], None]]:
        with progress(title, unit) as bar:
            yield bar

    def begin(self, settings: Mapping[str, Any], step: int) -> None:
        self.standing.begin(settings, step)
        if step:
            self.note(f"going on after step {step}")
        self._live.start()

    def step(self, report: Report) -> None:
        self.standing.step(report)

    def event(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        self.standing.event(name, step, values)
        if name == "skipped":
            self.note(f"step {step} was skipped: {values['reason']}; its documents are in log.jsonl")

    def note(self, text: str) -> None:
        self._console.print(Text(harmless(text), style="dim"))

    def close(self) -> None:
        """Draw a last time and leave the terminal as it was."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        return view(self.standing, self._memory(), min(self._console.width, _COLUMNS))


def view(standing: Standing, memory: float, width: int) -> RenderableType:
    """A run as it stands, `width` columns wide. memory: bytes taken at most, 0 where it is not known."""
    last = standing.last
    if last is None:
        return Text("the first step is on its way", style="dim")
    rows = [_figures(standing), _speed(standing, memory), _bar(last.step, standing.steps, width)]
    rows += _plot(standing.curve, width)
    if standing.held_out is not None:
        rows.append(Text(f"held-out loss {standing.held_out[1]:.4f} after step {standing.held_out[0]:,}"))
    if standing.sample is not None:
        step, text = standing.sample
        lines = harmless(text).split("\n")[:_WORDS]
        rows += [Text(f"sample after step {step:,}:", style="dim"), *(Text(line[: 3 * width]) for line in lines)]
    return Group(*rows)


def _figures(standing: Standing) -> Text:
    last = standing.last
    assert last is not None
    text = Text.assemble(
        f"step {last.step:,} of {standing.steps:,}   loss ",
        (f"{last.loss:.4f}", "bold"),
        f", averaged {standing.smooth:.4f}   norm {last.norm:.3g}   rate {last.rate:.3g}",
    )
    if standing.skipped:
        text.append(f"   {standing.skipped} skipped", style="yellow")
    return text


def _speed(standing: Standing, memory: float) -> Text:
    parts = [f"{standing.speed:,.0f} tokens/s"]
    if (share := standing.share) is not None:
        parts.append(f"{share:.0%} of the peak")
    if memory:
        parts.append(f"memory {memory / 2**30:.2f} GiB")
    if (left := standing.left) is not None:
        parts.append(f"{clock(left)} left")
    return Text("   ".join(parts))


def _bar(done: int, total: int, width: int) -> Text:
    full = round(width * done / max(total, 1))
    return Text.assemble(("\u2501" * full, "green"), ("\u2501" * (width - full), "dim"))


def _plot(curve: list[tuple[float, float]], width: int) -> list[Text]:
    points = list(curve)  # the run adds to its own meanwhile
    frame = bounds([points])
    if frame is None or len(points) < 2:
        return []
    rows = braille([points], max(width - 8, 1), _ROWS)
    labels = {0: short(frame[3]), _ROWS - 1: short(frame[2])}
    return [
        Text(f"{labels.get(at, ''):>7} " + "".join(dot for dot, _ in row), no_wrap=True) for at, row in enumerate(rows)
    ]


def clock(seconds: float) -> str:
    """A time in words, such as "3 h 20 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
