"""The `llamero` command: finds the subcommand, and turns every error into one clear line.

Only the named command's module is imported, so help and mistakes cost nothing. Exit codes: 0 done, 1 an error, 2 a
mistake in the command line, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn, Protocol, cast

from llamero.errors import LlameroError, nearest

COMMANDS = {
    "run": "continue a text with a model, or answer one question",
    "chat": "talk with a model",
    "serve": "answer over HTTP as OpenAI's API does",
    "inspect": "show what is in a model's file",
    "plan": "say what a training run will need and take, before it is started",
    "plot": "draw and compare the curves of training runs",
    "bench": "measure how fast a model runs here, and how far from the machine's limits that is",
    "lineage": "show where an artefact comes from, and write its model card",
    "tokenizer": "learn a vocabulary from text, look at one, or write it in another form",
    "tokenize": "turn text files into token shards for training",
    "mix": "show what a mixture of token shards comes to: proportions and epochs",
    "train": "raise a model from text, or go on with a run that was stopped",
    "average": "write the mean of several checkpoints of a run as a model",
    "bundle": "put a model and everything that runs it into one program file",
    "pull": "fetch a model by its name at a hub",
    "keys": "make, list and revoke the keys that open a server",
}
_EXAMPLES = """\
examples:
  llamero chat                                   talk to the model inside
  llamero run "Once upon a time" --max-tokens 60
  llamero run -m model.gguf "The capital of Peru is" --temperature 0
  llamero inspect model.gguf --context 8192
  llamero plan llama-3.1-8b --kind h100 --devices 64 --tokens 15e12
  llamero bench model.gguf --threads 8
  llamero train tiny --text stories.txt --out runs/my
  llamero pull bartowski/Llama-3.2-1B-Instruct-GGUF

`llamero COMMAND --help` says more about a command.
"""


class Command(Protocol):
    """What a command's module offers."""

    EXAMPLES: str

    def configure(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (without the program's name) and give the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _ready_streams()
    # what fails before a command runs: a write to a full disk, Ctrl-C while it is imported
    return _guarded("llamero", lambda: _run(words), OSError, debug="--debug" in words)


def _guarded(program: str, work: Callable[[], int], expected: type[Exception], *, debug: bool) -> int:
    """Do the work and give its exit code, or that of what was expected to go wrong, told in one line."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except expected as error:
        if debug:
            raise
        print(f"{program}: {explain(error)}", file=sys.stderr)
        return 1
    return code


def _ready_streams() -> None:
    """Streams that were closed before the start lead nowhere; what their encoding lacks is written by its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> int:
    if len(words) == 2 and words[0] == "help":
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        import llamero

        print(f"llamero {llamero.__version__}")
        return 0
    if words[0] not in COMMANDS:
        kind = "option" if words[0].startswith("-") else "command"
        print(f"llamero: unknown {kind} {words[0]!r}: {nearest(words[0], COMMANDS)}", file=sys.stderr)
        return 2
    return run_command(words[0], words[1:])


class _Parser(argparse.ArgumentParser):
    """One that tells a mistake in one line, without all the options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` shows all options\n")


def _help() -> str:
    lines = [f"  {name:9} {what}" for name, what in COMMANDS.items()]
    head = ["usage: llamero COMMAND [OPTIONS]", "", "A Llama's whole life in one package.", "", "commands:"]
    return "\n".join([*head, *lines, "", _EXAMPLES])


def run_command(
    name: str, words: Sequence[str], *, program: str = "llamero", defaults: Mapping[str, Any] | None = None
) -> int:
    """Run one command and give the exit code. program: what it is part of; defaults: of its options, by their names."""
    command = cast(Command, import_module(f"llamero.interfaces.cli.{name}"))
    parser = _Parser(
        prog=f"{program} {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=command.EXAMPLES if program == "llamero" else None,  # which are commands of that name
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.configure(parser)
    parser.set_defaults(**(defaults or {}))
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    args, unknown = parser.parse_known_args(words)
    if unknown:
        parser.error(_unknown(unknown, parser))
    return _guarded(f"{program} {name}", lambda: command.run(args), Exception, debug=args.debug)


def _unknown(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What to say of words that are no option, with the nearest that is."""
    flags = [
        flag for flag in parser.format_usage().replace("[", " ").replace("]", " ").split() if flag.startswith("--")
    ]
    word = words[0].partition("=")[0]
    near = f" ({nearest(word, flags)})" if word.startswith("--") and get_close_matches(word, flags, n=1) else ""
    return f"unrecognized arguments: {' '.join(words)}{near}"


def explain(error: Exception) -> str:
    """One line: what we refuse on purpose, what the system refused, or a mistake of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, LlameroError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory ({text or 'no details'}); try a smaller --context, a smaller model, or --cache q8_0"
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename  # of a renaming, the name that was to be
        return f"{path}: {error.strerror.lower()}" if path is not None else error.strerror.lower()
    if isinstance(error, OSError):
        return text
    return f"unexpected {type(error).__name__}: {text} (run it again with --debug to see where)"
