"""`llamero bench`: how fast a model runs on this machine, beside the machine's limits."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from llamero.interfaces.benchmark import Benchmark, Figure, Plan, benchmark
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import screen
from llamero.interfaces.models import find_model

EXAMPLES = """\
examples:
  llamero bench model.gguf                            a prompt of 512 tokens, and writing 64
  llamero bench model.gguf --prompt 512,4096 --write 0
  llamero bench model.gguf --prompt 0 --together 1,4,8   a token for each of several sequences in every step
  llamero bench model.gguf --after 4096,16384         writing where there are many tokens already
  llamero bench model.gguf --json - | jq .limits

Speeds are tokens a second of all sequences together, the median of the rounds. The limits are measured in the same
rounds: for prompts the arithmetic unit that most weights are multiplied with (2 operations for each weight and token),
for writing the memory's bandwidth (all weights and the sequences' cache are read in each step).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder of weights, or a pulled name")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (one per core)")
    parser.add_argument("--prompt", type=_numbers, default=(), metavar="N,..", help="lengths of prompts (512)")
    parser.add_argument("--write", type=int, default=64, metavar="N", help="tokens to write in each sequence (64)")
    parser.add_argument("--together", type=_numbers, default=(1,), metavar="N,..", help="sequences at once (1)")
    parser.add_argument("--after", type=_numbers, default=(0,), metavar="N,..", help="tokens before those written (0)")
    parser.add_argument("--cache", default="f16", choices=("f16", "f32", "q8_0"), help="how the past is kept (f16)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often to measure (3)")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON as well; - for nothing but JSON")


def run(args: argparse.Namespace) -> int:
    """Measure a model."""
    plan = Plan(args.prompt, args.write, args.together, args.after, args.rounds)
    if args.json not in (None, "-"):
        Path(args.json).touch()  # what cannot be written is told before minutes of measuring
    with progress("measuring", "runs") as bar:
        measured = benchmark(find_model(args.model), plan, threads=args.threads, cache=args.cache, progress=bar)
    text = json.dumps(measured.as_json()) + "\n"
    if args.json == "-":
        sys.stdout.write(text)
        return 0
    _show(measured)
    if args.json:
        Path(args.json).write_text(text)
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, or several with commas between") from None


def _show(measured: Benchmark) -> None:
    from rich.table import Table

    limits = measured.limits
    bf16 = f", bf16 {limits.bf16 / 1e12:.3g} T" if limits.bf16 else ""
    arithmetic = f"int8 {limits.int8 / 1e12:.3g} T{bf16}, f32 {limits.f32 / 1e12:.3g} T operations/s"
    memory = f", at most {measured.memory / 1e6:,.0f} MB resident" if measured.memory else ""
    console = screen()
    console.print(f"model    {measured.path}, most weights {measured.demand.type}")
    console.print(f"machine  {measured.threads} threads, {measured.level}; {arithmetic}; reads {_gb(limits.read)}")
    console.print(f"opening  {measured.opening:.2f} s{memory}")
    table = Table(box=None, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    for title in ("tokens/s", "used", "of the limit"):
        table.add_column(title, justify="right")
    for figure in measured.figures:
        use = figure.speed * figure.cost
        used = _gb(use) if figure.limit == "read" else f"{use / 1e12:.3g} T {figure.limit}/s"
        table.add_row(_name(figure), f"{figure.speed:,.1f}", used, f"{figure.share:.0%}")
    console.print(table)


def _name(figure: Figure) -> str:
    if figure.kind == "prompt":
        return f"prompt of {figure.tokens}"
    together = f", {figure.together} at once" if figure.together > 1 else ""
    return f"writing {figure.tokens}{together}" + (f", after {figure.after}" if figure.after else "")


def _gb(rate: float) -> str:
    return f"{rate / 1e9:.1f} GB/s"
