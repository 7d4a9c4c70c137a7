"""`llamero bundle`: a model, the engine and the page in one program file; and a look into such a file."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

from llamero.errors import SettingError
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import note

EXAMPLES = """\
examples:
  llamero bundle model.gguf -o talker            ./talker chats, ./talker --serve answers over HTTP
  llamero bundle bartowski/Llama-3.2-1B-Instruct-GGUF -o llama --context 4096
  llamero bundle folder-of-weights -o poet --system "You answer in rhymes."
  llamero bundle base.gguf -o base --chat-template template.jinja --licence LICENSE.txt
  llamero bundle --verify talker                 what is inside, every byte held against its hash
  llamero bundle --extract talker -o folder      the model as it was, licences and manifest

The file runs on Linux of this processor family, with no Python there. At its first start it unpacks the engine, not the
weights, into ~/.cache/llamero/engines; `--engines` and `--remove-engines` show and delete such folders.
"""

_MAKING = ("model", "output", "context", "system", "chat_template", "tokenizer", "licence")
_LOOKING = {"verify": ("json",), "extract": ("output",), "engines": (), "remove_engines": ("keep",)}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder of weights, or a pulled name")
    parser.add_argument("-o", "--output", metavar="NAME", help="the file to make; with --extract, the folder")
    made = parser.add_argument_group("what it does unless its user says otherwise")
    made.add_argument("--context", type=int, metavar="N", help="tokens it may see at once")
    made.add_argument("--system", metavar="TEXT", help="how it is to behave in a chat")
    made.add_argument("--chat-template", metavar="NAME", help="a chat format such as llama-3.1, or a file of Jinja")
    more = parser.add_argument_group("what goes in")
    more.add_argument("--tokenizer", metavar="PATH", help="a tokenizer, for files that bring none")
    more.add_argument("--licence", action="append", default=[], metavar="FILE", help="a text to put in; repeatable")
    looks = parser.add_argument_group("instead of making one").add_mutually_exclusive_group()
    looks.add_argument("--verify", metavar="FILE", help="show what a bundle holds and check all of it")
    looks.add_argument("--extract", metavar="FILE", help="write a bundle's model and licences into a folder")
    looks.add_argument("--engines", action="store_true", help="show the engines that bundles have unpacked here")
    looks.add_argument("--remove-engines", action="store_true", help="delete them; a bundle's next start unpacks anew")
    parser.add_argument("--keep", metavar="NAME", help="with --remove-engines: one to leave")
    parser.add_argument("--json", action="store_true", help="with --verify: print the manifest")


def run(args: argparse.Namespace) -> int:
    """Make a bundle, or look into one."""
    _check(args)
    if args.engines or args.remove_engines:
        return _engines(args)
    if args.verify is None and args.extract is None:
        return _make(args)
    return _verify(args) if args.verify is not None else _extract(args)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that belong to another way of using the command."""
    way = next((name for name in _LOOKING if getattr(args, name)), None)
    fitting = _LOOKING[way] if way else _MAKING
    for name in (*_MAKING, "json", "keep"):
        if name not in fitting and getattr(args, name) not in (None, False, []):
            told = "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
            doing = f"--{way.replace('_', '-')}" if way else "making a bundle"
            raise SettingError(f"{told} does not go with {doing}; see `llamero bundle --help`")


def _make(args: argparse.Namespace) -> int:
    from llamero.formats.bundle import Bundle
    from llamero.interfaces.bundle.make import Settings, make_bundle

    if args.output is None:
        raise SettingError("name the file to make with -o NAME")
    template = args.chat_template
    if template is not None and Path(template).is_file():
        template = Path(template).read_text(encoding="utf-8")
    path = make_bundle(
        args.model,
        args.output,
        tokenizer=args.tokenizer,
        settings=Settings(args.context, args.system, template),
        licences=args.licence,
        stage=partial(progress, unit="bytes"),
    )
    bundle = Bundle.open(path)
    weights = sum(part.size for part in bundle.of("model"))
    note(
        f"{path}: {bundle.head.total / 1e6:,.1f} MB, of which the engine {bundle.head.engine / 1e6:.1f} MB and the "
        f"weights {weights / 1e6:,.1f} MB; identity {bundle.identity}"
    )
    return 0


def _verify(args: argparse.Namespace) -> int:
    from llamero.formats.bundle import Bundle
    from llamero.interfaces.bundle.show import described

    bundle = Bundle.open(args.verify)
    if args.json:
        print(json.dumps(dict(bundle.manifest) | {"identity": bundle.identity}, ensure_ascii=False))
    else:
        print("\n".join(described(bundle)))
    with progress("checking", "bytes") as bar:
        bundle.verify(bar)
    note("every byte is as it was made")
    return 0


def _extract(args: argparse.Namespace) -> int:
    from llamero.formats.bundle import Bundle
    from llamero.interfaces.bundle.show import extract

    if args.output is None:
        raise SettingError("name the folder to write into with -o FOLDER")
    bundle = Bundle.open(args.extract)
    with progress("checking", "bytes") as bar:
        files = extract(bundle, Path(args.output), bar)
    print("\n".join(str(path) for path in files))
    return 0


def _engines(args: argparse.Namespace) -> int:
    from llamero.interfaces.bundle.unpacked import remove, unpacked

    for engine in unpacked(os.environ):
        kept = not args.remove_engines or engine.path.name == args.keep
        if not kept:
            remove(engine)
        what = "" if engine.whole else " (left half)"
        print(f"{'' if kept else 'removed '}{engine.path}  {engine.size / 1e6:.1f} MB{what}")
    return 0
