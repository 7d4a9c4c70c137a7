"""The program inside a bundle: chat, or what its user's first word says. Its model is the bundle itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llamero.errors import LlameroError, nearest
from llamero.formats.bundle import Bundle
from llamero.interfaces.cli.main import explain, run_command

# Which of the bundle's settings each of the commands inside knows.
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "chat": ("context", "chat_template", "system"),
    "run": ("context", "chat_template"),
    "serve": ("context", "chat_template"),
    "inspect": (),
    "bench": (),
    "keys": (),
}
# What Python runs in the processes that it starts for `multiprocessing`.
_CHILDREN = ("from multiprocessing.spawn import", "from multiprocessing.resource_tracker import")


def main(path: str, words: Sequence[str]) -> int:
    """Do what the words ask for and give the exit code. path: the bundle."""
    own = Path(path)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(own.name)  # what `ps` shows, instead of the loader's name
    code = words[words.index("-c") + 1 :] if "-c" in words else []
    if code and code[0].startswith(_CHILDREN):
        return _as_python(code)
    try:
        bundle = Bundle.open(own)
        return _run(bundle, list(words))
    except (LlameroError, OSError) as error:
        print(f"{own.name}: {explain(error)}", file=sys.stderr)
        return 1


def _as_python(code: Sequence[str]) -> int:
    """Be the Python of a child process: only this file is a program that can be started, on any machine."""
    sys.argv = ["-c", *code[1:]]
    exec(code[0], {"__name__": "__main__"})
    return 0


def _run(bundle: Bundle, words: list[str]) -> int:
    first, rest = (words[0], words[1:]) if words else ("chat", [])
    others: Mapping[str, Callable[[Bundle, list[str]], int]] = {
        "--help": _help,
        "-h": _help,
        "--version": _version,
        "-V": _version,
        "--verify": _verify,
        "--extract": _extract,
        "--engines": _engines,
        "--remove-engines": _remove_engines,
    }
    if first in others:
        return others[first](bundle, rest)
    if first == "--serve":
        first = "serve"
    elif first.startswith("-"):
        first, rest = "chat", words
    if first not in _COMMANDS:
        print(f"{bundle.path.name}: unknown command {first!r}: {nearest(first, _COMMANDS)}", file=sys.stderr)
        return 2
    if first == "serve":
        import multiprocessing

        multiprocessing.set_executable(str(bundle.path))
    return run_command(first, rest, program=bundle.path.name, defaults=_defaults(bundle, first))


def _defaults(bundle: Bundle, name: str) -> dict[str, Any]:
    settings = bundle.manifest.get("settings", {})
    own: Any = [f"{bundle.path.name}={bundle.path}"] if name == "serve" else str(bundle.path)
    return {"model": own} | {key: settings[key] for key in _COMMANDS[name] if key in settings}


def _help(bundle: Bundle, _words: list[str]) -> int:
    name, model = bundle.path.name, bundle.manifest.get("model", {}).get("name")
    print(
        f"usage: {name} [COMMAND] [OPTIONS]\n\n"
        f"{model}, with everything it needs to run.\n\n"
        "  without a command        chat (`--system TEXT`, `--temperature X`, ...; see `chat --help`)\n"
        "  --serve [OPTIONS]        answer at http://127.0.0.1:8000, with a page to chat and the OpenAI API\n"
        "  run TEXT                 continue a text, or answer one question with --chat\n"
        "  keys                     make and revoke the keys that open the server to other machines\n"
        "  inspect, bench           show what the model is; measure how fast it runs here\n"
        "  --verify                 show what is inside, and hold every byte against its hash\n"
        "  --extract FOLDER         write the model, the licences and the manifest into a folder\n"
        "  --engines                show where engines of bundles have been unpacked on this machine\n"
        "  --remove-engines         delete those that this bundle does not need\n"
        "  --version, --help\n\n"
        "examples:\n"
        f"  ./{name}\n"
        f"  ./{name} --serve --port 8080\n"
        f'  ./{name} run "Once upon a time" --max-tokens 60\n'
        f"  ./{name} COMMAND --help"
    )
    return 0


def _version(bundle: Bundle, _words: list[str]) -> int:
    print(f"{bundle.manifest.get('model', {}).get('name')} with llamero {bundle.manifest.get('llamero')}")
    return 0


def _verify(bundle: Bundle, words: list[str]) -> int:
    return _as_command(bundle, ["--verify", str(bundle.path), *words])


def _extract(bundle: Bundle, words: list[str]) -> int:
    return _as_command(bundle, ["--extract", str(bundle.path), "-o", *words])


def _engines(bundle: Bundle, words: list[str]) -> int:
    return _as_command(bundle, ["--engines", *words])


def _remove_engines(bundle: Bundle, words: list[str]) -> int:
    return _as_command(bundle, ["--remove-engines", "--keep", bundle.head.engine_digest.hex()[:32], *words])


def _as_command(bundle: Bundle, words: list[str]) -> int:
    return run_command("bundle", words, program=bundle.path.name, defaults={})
