"""`llamero mix`: what a mixture of shard sets comes to, proportions and epochs, before anything is trained on it."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from llamero.errors import SettingError
from llamero.interfaces.cli.progress import progress
from llamero.training.data.mixture import open_mix
from llamero.training.data.shares import Share, Wish, solve

EXAMPLES = """\
examples:
  llamero mix shards/stories=0.8 shards/books=0.2 --tokens 2B       how often is each seen?
  llamero mix shards/stories=4x shards/books=1x                     what proportions is that?
  llamero mix shards/wiki=2.45x shards/web=0.67 shards/code=0.33 --tokens 1.4T
  llamero mix wiki:25.7B=0.045 web:853B=0.67 code:98B=0.285 --tokens 1.4T    sizes alone, without data
  llamero mix shards/stories=1 --verify --tokens 1B                 read every shard and compare its hash

A share is a proportion (0.67, 67%; beside the others', so they need not come to 1) or epochs (2.45x). Proportions
divide what parts with epochs leave.
"""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("parts", nargs="+", metavar="FOLDER=SHARE", help="shards, or NAME:TOKENS, and their share")
    parser.add_argument("--tokens", type=_count, metavar="N", help="tokens seen in all, such as 300M or 1.4T")
    parser.add_argument("--verify", action="store_true", help="read all shards and compare their hashes")


def run(args: argparse.Namespace) -> int:
    """Solve a mixture and print it."""
    planned = [":" in word.rpartition("=")[0] and not Path(word.rpartition("=")[0]).exists() for word in args.parts]
    if all(planned):
        shares = _planned(args.parts, args.tokens)
    elif any(planned):
        raise SettingError(f"{args.parts[planned.index(True)]!r} has no folder, others do; give sizes for all or none")
    else:
        shares = _opened(args)
    print(table(shares))
    return 0


def _opened(args: argparse.Namespace) -> list[Share]:
    streams, shares = open_mix(args.parts, args.tokens)
    for stream in streams.values() if args.verify else ():
        with progress(f"verifying {stream.name}", "bytes") as bar:
            stream.verify(bar, anew=True)
    return shares


def _planned(words: list[str], total: int | None) -> list[Share]:
    sizes: dict[str, int] = {}
    wishes: dict[str, Wish] = {}
    for word in words:
        part, _, wish = word.rpartition("=")
        name, _, size = part.rpartition(":")
        if name in sizes:
            raise SettingError(f"two parts of the mixture are called {name!r}")
        sizes[name], wishes[name] = _tokens(size), Wish.parse(wish)
    return solve(sizes, wishes, total)


def table(shares: list[Share]) -> str:
    """The shares as LLaMA's Table 1 has them, with the tokens that there are and that are seen."""
    wide = max(len("all"), *(len(share.name) for share in shares))
    lines = [f"{'':{wide}}  {'proportion':>10}  {'epochs':>7}  {'tokens':>8}  {'seen':>8}"]
    for share in shares:
        epochs, tokens, seen = f"{float(share.epochs):.2f}", _short(share.tokens), _short(float(share.seen))
        lines.append(f"{share.name:{wide}}  {float(share.proportion):>10.2%}  {epochs:>7}  {tokens:>8}  {seen:>8}")
    tokens, seen = _short(sum(share.tokens for share in shares)), _short(float(sum(share.seen for share in shares)))
    lines.append(f"{'all':{wide}}  {'':>10}  {'':>7}  {tokens:>8}  {seen:>8}")
    return "\n".join(lines)


def _short(count: float) -> str:
    for unit in ("T", "B", "M", "K"):
        if count >= _UNITS[unit]:
            return f"{count / _UNITS[unit]:.4g}{unit}"
    return f"{count:.0f}"


def _tokens(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([KMBT]?)", text)
    count = float(found[1]) * _UNITS[found[2]] if found else math.inf
    if count == math.inf:
        raise SettingError(f"{text!r} is no number of tokens, such as 300M or 1.4T")
    return round(count)


def _count(text: str) -> int:
    try:
        count = _tokens(text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if count < 1:
        raise argparse.ArgumentTypeError("a mixture has at least one token")
    return count
