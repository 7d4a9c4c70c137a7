"""`llamero inspect`: a model's file on one screen, or as JSON."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from llamero.errors import SettingError
from llamero.formats.open import open_model_file
from llamero.formats.tensor import Reader
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import screen
from llamero.interfaces.inspection import Report, inspect_model, weights_hash
from llamero.interfaces.models import find_model

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """\
examples:
  llamero inspect                                the small model inside
  llamero inspect model.gguf --context 32768     memory needed for that many tokens
  llamero inspect model.gguf --tensors           every tensor with its type, shape and size
  llamero inspect folder-of-weights --json | jq .config
  llamero inspect model.gguf --hash              two files with the same last line hold the same weights
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder of weights, or a pulled name")
    parser.add_argument("--context", type=int, metavar="N", help="tell the memory for so many tokens")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("--hash", action="store_true", help="print one SHA-256 of all weights last")
    parser.add_argument("--tokenizer", metavar="PATH", help="a tokenizer, for files that bring none")


def run(args: argparse.Namespace) -> int:
    """Describe a model."""
    if args.context is not None and args.context < 1:
        raise SettingError(f"context must be a whole number of at least 1, got {args.context}")
    reader = open_model_file(find_model(args.model))
    try:
        report = inspect_model(reader, args.context, args.tokenizer)
        if args.json:
            print(json.dumps(report.as_json() | ({"hash": _hash(reader)} if args.hash else {}), ensure_ascii=False))
            return 0
        _show(report, args.tensors)
        if args.hash:
            print(_hash(reader))
    finally:
        reader.close()
    return 0


def _hash(reader: Reader) -> str:
    with progress("hashing", "bytes") as bar:
        return weights_hash(reader, bar)


def _show(report: Report, tensors: bool) -> None:

    console = screen()
    bits = 8 * report.nbytes / report.parameters if report.parameters else 0
    facts = [
        ("file", report.path),
        ("name", report.name or "-"),
        ("layout", report.layout + (f", architecture {report.architecture}" if report.architecture else "")),
        ("weights", f"{_count(report.parameters)} parameters, {_size(report.nbytes)}, {bits:.2f} bits each"),
        *_architecture(report),
        *_language(report),
        *_needs(report),
    ]
    if report.problem:
        facts.append(("problem", report.problem))
    width = max(len(label) for label, _ in facts)
    for label, text in facts:
        console.print(f"{label:{width}}  {text}")
    console.print(_type_table(report))
    if tensors:
        console.print(_tensor_table(report))


def _architecture(report: Report) -> list[tuple[str, str]]:
    config = report.config
    if config is None:
        return []
    scaling = config.rope_scaling
    rope = f"theta {config.rope_theta:g}" + (f", {scaling.kind} scaling by {scaling.factor:g}" if scaling else "")
    return [
        ("model", report.family or "a Llama of its own shape"),
        ("shape", f"{config.layers} layers of width {config.dim}, feed-forward {config.ffn_dim}"),
        ("heads", f"{config.heads} of {config.head_dim}, {config.kv_heads} for keys and values"),
        ("vocabulary", f"{config.vocab} tokens, output {'tied to' if config.tied else 'apart from'} the embedding"),
        ("context", f"{config.context} tokens; rope {rope}; norm eps {config.norm_eps:g}"),
    ]


def _language(report: Report) -> list[tuple[str, str]]:
    facts = []
    if report.tokenizer:
        about = report.tokenizer
        kind = {"spm": "SentencePiece BPE", "bpe": "byte-level BPE"}[about["kind"]]
        stops = ", ".join(f"{stop['text'] or '?'} {stop['id']}" for stop in about["stops"])
        bos = f"begins with {about['bos']['text']} {about['bos']['id']}" if about["adds_bos"] else "no BOS"
        facts.append(
            ("tokenizer", f"{kind}, {about['tokens']} tokens ({about['special']} special); {bos}; stops: {stops}")
        )
    if report.chat_template:
        about = report.chat_template
        source = f"{len(about['source'])} characters from the file" if about["source"] else "none in the file"
        facts.append(("chat format", f"{about['family']} ({source})"))
    return facts


def _needs(report: Report) -> list[tuple[str, str]]:
    memory = report.memory
    if memory is None:
        return []
    caches = ", ".join(f"{kind} {_size(size)}" for kind, size in memory.cache.items())
    total = memory.weights + memory.cache["f16"] + memory.work
    return [
        (
            "memory",
            f"about {_size(total)} at a context of {memory.context}, of which the mapped file {_size(memory.weights)}",
        ),
        ("cache", f"{caches}; and {_size(memory.work)} to work in"),
    ]


def _type_table(report: Report) -> Table:
    from rich.table import Table

    table = Table("type", box=None, pad_edge=False)
    for title in ("tensors", "parameters", "size"):
        table.add_column(title, justify="right")
    for total in report.types:
        table.add_row(total.type, str(total.tensors), _count(total.parameters), _size(total.nbytes))
    return table


def _tensor_table(report: Report) -> Table:
    from rich.table import Table

    table = Table("tensor", "type", box=None, pad_edge=False)
    for title in ("shape", "size"):
        table.add_column(title, justify="right")
    for info in report.tensors:
        table.add_row(info.name, info.type.name, " x ".join(map(str, info.shape)), _size(info.nbytes))
    return table


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return f"{number:g}"


def _size(nbytes: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes:g} bytes"
