"""What the user types, one whole message at a time: from a terminal with history and editing, or from plain lines.

A line ending in a backslash goes on in the next, and lines between two of three quotes belong together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings

_QUOTES = '"""'


def read_message(read_line: Callable[[str], str]) -> str:
    """One message, possibly of several lines. read_line is given the prompt to show, and raises EOFError at the end."""
    text = read_line("> ")
    if text.lstrip().startswith(_QUOTES):
        return _quoted(text.lstrip().removeprefix(_QUOTES), read_line)
    lines = [text]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1].removesuffix("\\")
        lines.append(read_line("… "))
    return "\n".join(lines)


def _quoted(first: str, read_line: Callable[[str], str]) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(_QUOTES):
        lines.append(read_line("… "))
    lines[-1] = lines[-1].rstrip().removesuffix(_QUOTES)
    return "\n".join(lines).strip("\n")


def plain_line(_: str) -> str:
    """A line of standard input, without showing a prompt. Raises EOFError."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def terminal_lines(commands: Sequence[str]) -> Callable[[str], str]:
    """A reader of lines with editing, history between sessions, and completion of slash commands."""
    # Only here: scripts that pipe lines in need none of it.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = _history_file()
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(path)) if path else InMemoryHistory(),
        completer=WordCompleter(list(commands), sentence=True),
        complete_while_typing=False,
        key_bindings=_keys(),
        enable_open_in_editor=True,
    )
    return lambda prompt: session.prompt(prompt)


def _keys() -> KeyBindings:
    """Alt-Enter makes a new line; Ctrl-C clears what was typed, and interrupts when nothing was."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


def _history_file() -> Path | None:
    """A private file among the user's own state; None where it cannot be written."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "llamero" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return None
    return path
