"""llamero beside llama.cpp and ik_llama.cpp on this machine's CPU: alternating, with the limits of the same rounds.

    python bench/cpu.py --models 1b --types Q8_0,Q4_K_M --figures prompt,write --json rows.json \\
        --llama-bench llama.cpp/build/bin/llama-bench --ik-llama-bench ik_llama.cpp/build/bin/llama-bench

Models are random weights of true shape, made in --folder when first needed. Each round runs every contestant once, in
a process of its own; llama-cpp-python is one if it is installed. Printed are medians, the ratio ours / theirs to the
best contestant, and the share of the limit: for prompts of the arithmetic unit that the weights are multiplied with,
for writing of the memory's bandwidth.

figures:
  prompt   a prompt of 512 tokens (128 for the smallest model)
  write    64 tokens in one sequence
  batch    32 tokens in each of 4, 8 and 16 sequences at once, after 32
  long     a prompt of 4,096
  depth    64 tokens after each of --depths
  start    start of process to its end after one token, peak of resident memory, opening (where a contestant tells)

Keep --folder on a disk: pages of a tmpfs such as /dev/shm are small, and mapped files there are read a tenth slower or
more. A small model's context may be too short for a figure, which is then left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models import FOLDER, MIXES, SHAPES, model_file
from start import MEMORY, START, start

from llamero.interfaces.benchmark import Plan
from llamero.model.family import by_name
from llamero.ops.native_ops import NativeOps
from peers import OPENING, Contestant, IkLlamaCpp, Job, Key, LlamaCpp, LlamaCppPython, Ours, PeerError, Result

FIGURES = ("prompt", "write", "batch", "long", "depth", "start")
UNITS = {START: "s", OPENING: "s", MEMORY: "MB"}  # the rest is tokens a second


def plan_of(figure: str, shape: str, depths: list[int]) -> Plan | None:
    """What `figure` means for a model of that shape, None where its context is too short."""
    context = by_name(SHAPES[shape]).context
    if figure == "prompt":
        return Plan((min(512, context // 2),), write=0, rounds=1)
    if figure == "batch":
        return Plan((0,), write=32, together=(4, 8, 16), after=(32,), rounds=1)
    if figure == "long":
        return Plan((4096,), write=0, rounds=1) if context >= 4096 else None
    if figure == "depth":
        after = tuple(depth for depth in depths if depth + 64 <= context)
        return Plan((0,), write=64, after=after, rounds=1) if after else None
    if figure == "start":
        return Plan((1,), write=0, rounds=1)
    return Plan((0,), write=64, rounds=1)


def measure(figure: str, job: Job, contestants: list[Contestant], rounds: int) -> dict[str, list[Result]]:
    """Every contestant's results, a round each; a peer that fails is left out, which is printed."""
    results: dict[str, list[Result]] = defaultdict(list)
    failed: set[str] = set()
    for _ in range(rounds):
        for contestant in contestants:
            if contestant.name in failed:
                continue
            try:
                run = start if figure == "start" else type(contestant).run
                results[contestant.name].append(run(contestant, job))
            except PeerError as error:
                if contestant.name == Ours.name:
                    raise SystemExit(str(error)) from None
                failed.add(contestant.name)
                results.pop(contestant.name, None)
                print(f"{contestant.name} is left out: {error}")
    return results


def rows_of(figure: str, shape: str, mix: str, results: dict[str, list[Result]]) -> Iterator[dict[str, Any]]:
    """One row for each key: ours, and the best of the others."""
    ours = results[Ours.name]
    for key in ours[0].speeds:
        if figure != "start" and key in UNITS:
            continue
        medians = {
            name: statistics.median(run.speeds[key] for run in runs)
            for name, runs in results.items()
            if all(key in run.speeds for run in runs)
        }
        mine = medians.pop(Ours.name)
        best = min if key in UNITS else max
        peer = best(medians, key=medians.__getitem__) if medians else None
        share = statistics.median(run.shares[key] for run in ours) if key in ours[0].shares else None
        ratio = mine / medians[peer] if peer else None
        yield {
            "figure": figure,
            "model": shape,
            "type": mix,
            **key._asdict(),
            "unit": UNITS.get(key, "tokens/s"),
            "ours": mine,
            "peer": peer,
            "theirs": medians[peer] if peer else None,
            "ratio": ratio,
            "share": share,
            "their_share": share / ratio if share and ratio else None,
            "limits": [run.limits for run in ours],
            "all": {name: [run.speeds.get(key) for run in runs] for name, runs in results.items()},
        }


def told(row: dict[str, Any]) -> str:
    """A row as a line."""
    key = Key(row["kind"], row["tokens"], row["together"], row["after"])
    what = f"{key.kind} {key.tokens or ''}" + (f" x {key.together}" if key.together > 1 else "")
    what += f" after {key.after}" if key.after else ""
    theirs = f"{row['peer']:>16} {row['theirs']:9.2f}   ratio {row['ratio']:5.2f}" if row["peer"] else ""
    share = f"   {row['share']:4.0%} of the limit" if row["share"] is not None else ""
    return f"{row['model']:>5} {row['type']:7} {what:26} {row['ours']:9.2f} {row['unit']:9}{theirs}{share}"


def contestants_of(options: argparse.Namespace) -> list[Contestant]:
    """Ours first."""
    found: list[Contestant] = [Ours()]
    if LlamaCppPython.here():
        found.append(LlamaCppPython())
    if options.llama_bench:
        found.append(LlamaCpp(options.llama_bench, batched(options.llama_bench, options.llama_batched_bench)))
    if options.ik_llama_bench:
        tools = options.ik_llama_bench, batched(options.ik_llama_bench, options.ik_batched_bench)
        found += [IkLlamaCpp(*tools), IkLlamaCpp(*tools, name="ik_llama.cpp -rtr", repacked=True)]
    return found


def batched(bench: Path, given: Path | None) -> Path | None:
    beside = given or bench.with_name("llama-batched-bench")
    return beside if beside.exists() else None


def tool(text: str) -> Path:
    """A program's path, which must be there."""
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return path


def listed(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A parser of words with commas between."""

    def parse(text: str) -> list[str]:
        words = list(allowed) if text == "all" else text.split(",")
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(allowed)}")
        return words

    return parse


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, allowed, default in (
        ("models", SHAPES, "1b"),
        ("types", MIXES, "Q8_0"),
        ("figures", FIGURES, "prompt,write"),
    ):
        parse = listed(tuple(allowed))
        what = f"all, or some of {', '.join(allowed)} ({default})"
        parser.add_argument(f"--{name}", type=parse, default=parse(default), metavar="NAME,..", help=what)
    depths = [4096, 16384]
    parser.add_argument(
        "--depths", type=numbers, default=depths, metavar="N,..", help=f"for the figure depth ({depths})"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often everyone is measured (3)")
    parser.add_argument("--threads", type=int, default=NativeOps().threads, metavar="N", help="one per core")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="PATH", help=f"where the models are ({FOLDER})")
    parser.add_argument("--discard", action="store_true", help="delete each model that this run made, once measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    for name in ("llama-bench", "llama-batched-bench", "ik-llama-bench", "ik-batched-bench"):
        beside = "; default: beside that one's llama-bench" if "batched" in name else ""
        parser.add_argument(f"--{name}", type=tool, metavar="PATH", help=f"the tool{beside}")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    contestants = contestants_of(options)
    rows: list[dict[str, Any]] = []
    for shape in options.models:
        for mix in options.types:
            path, made = model_file(options.folder, shape, mix)
            for figure in options.figures:
                plan = plan_of(figure, shape, options.depths)
                if plan is None:
                    continue
                results = measure(figure, Job(path, plan, options.threads), contestants, options.rounds)
                for row in rows_of(figure, shape, mix, results):
                    rows.append(row)
                    print(told(row), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1))
            if made and options.discard:
                path.unlink()


if __name__ == "__main__":
    main()
