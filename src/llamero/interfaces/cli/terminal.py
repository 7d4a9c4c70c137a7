"""Writing to the terminal: a model's words made harmless, and figures about them that stay out of the way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from llamero.interfaces.completion import Completion

if TYPE_CHECKING:
    from rich.console import Console

# A model may write bytes that a terminal would obey: escape sequences that retitle windows or hide text.
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """The text without what a terminal would obey."""
    return text.translate(_CONTROLS)


def screen() -> Console:
    """rich's, for tables: as wide as they are. A reader that has gone is a BrokenPipeError, as everywhere."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Screen(highlight=False, soft_wrap=True, markup=False)


def write(text: str, stream: TextIO | None = None) -> None:
    """Write at once; on a terminal, without what it would obey."""
    stream = stream or sys.stdout
    stream.write(text.translate(_CONTROLS) if stream.isatty() else text)
    stream.flush()


def note(text: str) -> None:
    """A remark on stderr, dim on a terminal."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{dim}{text.translate(_CONTROLS)}{plain}", file=sys.stderr, flush=True)


def figures(answer: Completion, context: int) -> str:
    """What an answer took, in one line."""
    times = answer.timings
    cached = f" ({answer.cached_tokens} cached)" if answer.cached_tokens else ""
    parts = [
        f"prompt {answer.prompt_tokens} tokens{cached} at {times.prompt_per_second:.1f}/s",
        f"answer {answer.completion_tokens} tokens at {times.completion_per_second:.1f}/s",
    ]
    if answer.dropped_tokens:
        parts.append(f"{answer.dropped_tokens} oldest tokens left out")
    if answer.drafted_tokens:
        parts.append(f"{answer.accepted_tokens} of {answer.drafted_tokens} guesses right")
    full = answer.prompt_tokens - answer.dropped_tokens + answer.completion_tokens >= context
    if answer.finish_reason == "length":
        parts.append(f"the context of {context} is full" if full else "stopped at max_tokens")
    elif answer.finish_reason is None:
        parts.append("stopped")
    return f"[{'; '.join([*parts, f'seed {answer.seed}'])}]"


def table(values: Mapping[str, Any]) -> None:
    """Values by name, in columns; those that are empty are left out."""
    cells = [f"{name} {_text(value)}" for name, value in values.items() if value not in (None, "")]
    width = max(map(len, cells)) + 2
    columns = max(120 // width, 1)
    for first in range(0, len(cells), columns):
        write("".join(cell.ljust(width) for cell in cells[first : first + columns]).rstrip() + "\n")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
