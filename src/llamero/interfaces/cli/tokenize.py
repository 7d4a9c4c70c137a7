"""`llamero tokenize`: text files into token shards for training, on all cores, going on after a stop."""

from __future__ import annotations

import argparse
from pathlib import Path

from llamero.corpus.texts import SEPARATOR
from llamero.corpus.tokenize import HELD_OUT, Job, tokenize
from llamero.formats.shards import MANIFEST, Shards
from llamero.formats.shards_write import SIZE
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.devices import cores

EXAMPLES = f"""\
examples:
  llamero tokenize --text stories.txt --tokenizer tokenizer.model --out shards
  llamero tokenize --text books/ wiki.jsonl.xz --tokenizer tokenizer.json --out shards --hold-out 0.005
  llamero tokenize --text pages.jsonl.zst --field content --tokenizer model.gguf --out shards --workers 8

A .jsonl file has a document on each line; any other file is cut where a line says {SEPARATOR} (--separator), or is one
document. .gz, .xz and .zst are unpacked. Each document begins and ends with the vocabulary's tokens for that.
The result is the same for any number of workers. The same command goes on after a stop, and does nothing when the set
is whole.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--text", type=Path, nargs="+", required=True, metavar="FILE", help="texts, or folders of them")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="PATH", help="a tokenizer, or a model's file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--workers", type=int, default=cores(), metavar="N", help="processes (one per core)")
    parser.add_argument("--field", default="text", metavar="NAME", help="the text's field in .jsonl files (text)")
    parser.add_argument("--separator", default=SEPARATOR, metavar="LINE", help="the line between documents of a text")
    parser.add_argument(
        "--hold-out", type=float, default=0.0, metavar="SHARE", help=f"share of documents for DIR/{HELD_OUT} (0)"
    )
    parser.add_argument("--shard", type=int, default=SIZE, metavar="N", help=f"tokens of a shard ({SIZE:,})")


def run(args: argparse.Namespace) -> int:
    """Write a set of shards and say what is in it."""
    job = Job(
        texts=tuple(args.text),
        tokenizer=args.tokenizer,
        out=args.out,
        field=args.field,
        separator=args.separator,
        hold_out=args.hold_out,
        shard=args.shard,
        workers=args.workers,
    )
    with progress("hashing", "bytes") as hashing, progress("tokenizing", "bytes") as tokenizing:
        bars = {"hashing": hashing, "tokenizing": tokenizing}
        shards = tokenize(job, lambda what, done, total: bars[what](done, total))
    _show(shards)
    if (args.out / HELD_OUT / MANIFEST).exists():
        _show(Shards.open(args.out / HELD_OUT))
    return 0


def _show(shards: Shards) -> None:
    each = shards.tokens / shards.documents
    print(f"{shards.folder}: {shards.documents:,} documents, {shards.tokens:,} tokens, {each:,.0f} a document")
    size = f"{sum(header.file_size for header in shards.headers):,} bytes in {len(shards.headers)} shards"
    print(f"  {size}, vocabulary {shards.vocabulary:,}, fingerprint {shards.fingerprint[:16]}")
