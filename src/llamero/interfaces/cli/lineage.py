"""`llamero lineage`: where an artefact comes from, whether its parents are still what they were, and a model card."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

from llamero.errors import LlameroError, ModelNotFound, SettingError
from llamero.formats.atomic import atomic_file
from llamero.formats.lineage import lineage
from llamero.formats.lineage.check import Member, members, problems
from llamero.formats.lineage.digest import Hasher
from llamero.formats.lineage.record import Record
from llamero.formats.open import open_model_file
from llamero.interfaces.card import About, card
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.family_tree import as_json, tree, visible
from llamero.interfaces.inspection import Report, inspect_model

EXAMPLES = """\
examples:
  llamero lineage model.gguf                      its family tree, the commands, and what changed since
  llamero lineage shards --quick                  look at sizes only
  llamero lineage run/checkpoints/step-00000500 --json | jq .members
  llamero lineage model.gguf --card --licence apache-2.0 --language en --out README.md
  llamero lineage stories.txt --declare --licence "CDLA-Sharing 1.0: TinyStories, Eldan and Li 2023"

The exit code is 1 where the artefact or a parent is not what it was. Parents that are not on this disk are named, and
are no error.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a file or folder that llamero made, or a source")
    parser.add_argument("--quick", action="store_true", help="compare sizes, not hashes")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument(
        "--card", action="store_true", help="write a model card, README.md of a Hugging Face repository"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the card's file (standard output)")
    parser.add_argument("--language", nargs="+", default=[], metavar="CODE", help="for the card, such as en")
    parser.add_argument(
        "--licence", action="append", default=[], metavar="NOTE", help="of the card, or a declared source"
    )
    parser.add_argument("--declare", action="store_true", help="note beside PATH that it is a source of that licence")


def run(args: argparse.Namespace) -> int:
    """Print the tree, the JSON or the card, or declare a source."""
    if args.declare:
        return _declare(args.path, args.licence)
    if (args.licence or args.language or args.out) and not args.card:
        raise SettingError("--licence, --language and --out belong to --card (or --declare)")
    if len(args.licence) > 1:
        raise SettingError("a card has one licence; give --licence once")
    found = lineage.read(args.path)
    if found is None:
        raise ModelNotFound(
            f"{args.path} does not say where it comes from: it was not made by llamero, or before lineages were kept"
        )
    with progress("hashing", "bytes") as bar:
        hasher = None if args.quick else Hasher(bar)
        family = list(members(found, hasher))
        odd = problems(args.path, found.record, hasher)
    if args.card:
        _write_card(args, found.record, family)
    elif args.json:
        print(json.dumps(as_json(args.path, found.record, odd, family), ensure_ascii=True))
    else:
        print("\n".join(tree(args.path, found.record, odd, family)))
    return 1 if odd or any(member.state == "changed" for member in family) else 0


def _declare(path: Path, licences: list[str]) -> int:
    if not path.exists():
        raise ModelNotFound(f"{path} is not there")
    old = lineage.read(path)
    if old is not None and old.record.kind != "source":
        raise SettingError(f"{path} says already where it comes from: see `llamero lineage {path}`")
    if not licences:
        raise SettingError("say what may be done with the source: --licence NOTE")
    with progress("hashing", "bytes"):
        lineage.record(path, kind="source", licences=licences)
    print(f"{visible(str(path))}: declared as a source; {visible('; '.join(licences))}")
    return 0


def _write_card(args: argparse.Namespace, record: Record, family: list[Member]) -> None:
    about = About(args.licence[0] if args.licence else None, tuple(args.language))
    text = card(record, family, _report(args.path), about)
    if args.out is None:
        print(text, end="")
        return
    with atomic_file(args.out) as file:
        file.write(text.encode())


def _report(path: Path) -> Report | None:
    """What a model's file says of itself; None where it is no model."""
    try:
        with closing(open_model_file(path)) as reader:
            return inspect_model(reader, None, None)
    except LlameroError:
        return None
