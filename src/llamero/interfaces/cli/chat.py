"""`llamero chat`: talk with a model. A conversation's logic is in session.py; this is its rhythm of keys and words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from llamero.errors import LlameroError
from llamero.interfaces.cli.keyboard import plain_line, read_message, terminal_lines
from llamero.interfaces.cli.options import add_answer_options, add_model_options, answer_options, load
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.session import Session
from llamero.interfaces.cli.terminal import figures, note, write

EXAMPLES = """\
examples:
  llamero chat                                   the small model inside
  llamero chat -m model.gguf --system "You answer in rhymes."
  llamero chat -m folder-of-weights --chat-template llama-3.1 --temperature 0.2
  printf 'Hello\\nWhat is 2+2?\\n' | llamero chat -m model.gguf

In a chat, /help shows the commands. Ctrl-C stops an answer; twice on an empty line, or Ctrl-D, leaves.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--system", metavar="TEXT", help="how the assistant is to behave")
    add_model_options(parser)
    add_answer_options(parser)


def run(args: argparse.Namespace) -> int:
    """Talk until the user leaves."""
    with load(args) as llama:
        session = Session(llama, answer_options(args), args.system)
        at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
        if at_terminal:
            size = f"{llama.config.parameters / 1e6:,.0f}M parameters"
            note(f"{llama.name}, {size}, context {llama.context} of {llama.config.context} tokens; /help helps")
        if llama.chat_template.name == "plain":
            note("This model knows no chat format: it goes on where your words stop.")
        _talk(session, terminal_lines(session.names) if at_terminal else plain_line, patient=at_terminal)
    return 0


def _talk(session: Session, read_line: Callable[[str], str], patient: bool) -> None:
    """Read and answer in turns. patient: the first Ctrl-C on an empty line only warns."""
    warned = not patient
    while True:
        try:
            text = read_message(read_line)
        except EOFError:
            return
        except KeyboardInterrupt:
            if warned:
                return
            note("(Ctrl-C again, or Ctrl-D, leaves)")
            warned = True
            continue
        warned = not patient
        if text.strip() in ("/exit", "/quit"):
            return
        if text.strip():
            _turn(session, text)


def _turn(session: Session, text: str) -> None:
    """One message of the user's: a command, or something to answer. Errors are told, and the talk goes on."""
    try:
        if text.strip() == "/regen":
            session.rewind()
        elif text.startswith("/"):
            note(session.command(text))
            return
        else:
            session.say(text)
        _answer(session)
    except (LlameroError, OSError) as error:
        note(f"error: {' '.join(str(error).split())}")


def _answer(session: Session) -> None:
    """Write the answer as it comes; Ctrl-C ends it where it is."""
    try:
        with progress("reading", "tokens") as bar:
            stream = session.answer(bar)
            first = next(stream, "")
    except BaseException as error:
        session.take_back()
        if isinstance(error, KeyboardInterrupt):
            note("[stopped]")
            return
        raise
    with stream:
        try:
            write(first)
            for piece in stream:
                write(piece)
        except KeyboardInterrupt:
            pass
    write("\n")
    session.keep(stream)
    note(figures(stream.completion, session.llama.context))
