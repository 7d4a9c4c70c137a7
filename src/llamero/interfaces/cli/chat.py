"""`llamero chat`: talk with a model. A conversation's logic is in session.py; this is its rhythm of keys and words."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from llamero.errors import ContextOverflow, LlameroError
from llamero.interfaces.cli.keyboard import plain_line, read_message, terminal_lines
from llamero.interfaces.cli.main import explain
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
        if not at_terminal:
            _talk(session, plain_line, None)
            return 0
        with CtrlC() as ctrl_c:
            _talk(session, terminal_lines(session.names), ctrl_c)
    return 0


class CtrlC:
    """In a `with` block, Ctrl-C interrupts nothing by itself: it is noted here, and looked at after each token.

    So it never strikes between an answer and the next prompt, however often it is pressed.
    """

    def __init__(self) -> None:
        self.noted = False

    def __enter__(self) -> CtrlC:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        self.noted = True


def _talk(session: Session, read_line: Callable[[str], str], ctrl_c: CtrlC | None) -> None:
    """Read and answer in turns. With `ctrl_c`, the first Ctrl-C on an empty line only warns."""
    warned = False
    while True:
        try:
            text = read_message(read_line)
        except EOFError:
            return
        except KeyboardInterrupt:
            if ctrl_c is None:
                raise
            if warned:
                return
            note("(Ctrl-C again, or Ctrl-D, leaves)")
            warned = True
            continue
        warned = False
        if text.strip() in ("/exit", "/quit"):
            return
        if text.strip():
            _turn(session, text, ctrl_c)


def _turn(session: Session, text: str, ctrl_c: CtrlC | None) -> None:
    """One message of the user's: a command, or something to answer. Errors are told, and the talk goes on."""
    try:
        if text.strip() == "/regen":
            session.rewind()
        elif text.startswith("/"):
            note(session.command(text))
            return
        else:
            session.say(text)
        _answer(session, ctrl_c or CtrlC())
    except ContextOverflow as error:
        note(f"error: {error}")
        note("/set overflow truncate leaves out the oldest messages from now on; /clear begins a new conversation")
    except (LlameroError, OSError) as error:
        note(f"error: {explain(error)}")


def _answer(session: Session, ctrl_c: CtrlC) -> None:
    """Write the answer as it comes; Ctrl-C ends it where it is."""
    ctrl_c.noted = False
    try:
        with progress("reading", "tokens") as bar:

            def tell(done: int, total: int) -> None:
                if ctrl_c.noted:
                    raise KeyboardInterrupt
                bar(done, total)

            stream = session.answer(tell)
            first = next(stream, "")
    except (LlameroError, OSError):
        session.take_back()
        raise
    except KeyboardInterrupt:
        if not ctrl_c.noted:
            raise
        session.take_back()
        note("[stopped before the answer; the question is forgotten]")
        return
    with stream:
        write(first)
        while not ctrl_c.noted and (piece := next(stream, None)) is not None:
            write(piece)
    write("\n")
    session.keep(stream)
    note(figures(stream.completion, session.llama.context))
