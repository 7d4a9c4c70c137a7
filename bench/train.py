"""Training speed beside Hugging Face's Trainer, litgpt and nanochat's model on this machine's CPU: in turn, rounds.

    python bench/train.py --shapes stories-15m,stories-110m --nanochat ../nanochat --json rows.json

First every contestant looks for its best settings, a short run each: bf16 (autocast over float32 weights) or f32,
torch.compile or not, how many sequences at once. Then come rounds of all contestants with those, each in a process of
its own (bench/train_contestant.py). Printed are medians in tokens a second, the ratio ours / theirs, both again by each
one's fastest step of all rounds (what neighbours on the machine disturb least), and the share of the arithmetic peak of
the same rounds that the model's operations are: 6 for each weight of a product and each token, and attention's
6 * layers * width * context (half of all pairs).

Trainer needs transformers and accelerate; litgpt is one if it is installed; nanochat if its checkout is named. Every
step is one update from --sequences sequences of --context random ids, clipped, by AdamW (fused). --malloc tells the C
library of every contestant to keep freed memory, as ours does by itself: no trainer's default, and it helps them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llamero.model.config import Config
from llamero.model.family import by_name
from llamero.ops.limits import Limits
from llamero.ops.native_ops import NativeOps

OURS = "llamero"
PROGRAM = Path(__file__).with_name("train_contestant.py")
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
_SEARCH = 1.0  # seconds of a run that looks for settings


@dataclass(frozen=True)
class Way:
    """Settings of a contestant."""

    dtype: str
    micro: int
    compile: bool

    def __str__(self) -> str:
        return f"{self.dtype}, {self.micro} at once" + (", compiled" if self.compile else "")


@dataclass(frozen=True)
class Bench:
    """What all contestants share."""

    shape: str
    sequences: int
    context: int
    threads: int
    seconds: float
    nanochat: str | None
    malloc: bool
    under: str

    def run(self, name: str, way: Way) -> dict[str, Any] | None:
        """What bench/train_contestant.py prints, None where it fails, which is told."""
        shared = {key: value for key, value in asdict(self).items() if key not in ("malloc", "under")}
        command = [*self.under.split(), sys.executable, str(PROGRAM), name, json.dumps(shared | asdict(way))]
        environment = os.environ | (KEEP if self.malloc else {})
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            print(f"{name} ({way}) fails: {done.stderr.strip().splitlines()[-1][:300]}", flush=True)
            return None
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return result


def operations(config: Config, context: int) -> float:
    """Operations that a token takes, forward and backward."""
    matrices = sum(
        rows * cols for name, (rows, *rest) in config.shapes().items() for cols in rest if name != "embedding"
    )
    if config.tied:
        matrices += config.vocab * config.dim
    attention = config.layers * config.heads * config.head_dim * context
    return 6.0 * (matrices + attention)


def ways(name: str, micros: list[int]) -> list[Way]:
    """The settings to try: ours compiles nothing."""
    compiled = (False,) if name == OURS else (True, False)
    return [Way(dtype, micro, flag) for dtype in ("bf16", "f32") for flag in compiled for micro in micros]


def best_way(bench: Bench, name: str, micros: list[int]) -> tuple[Way, list[dict[str, Any]]] | None:
    """The fastest settings, and all that were tried."""
    tried = []
    for way in ways(name, micros):
        result = replace(bench, seconds=_SEARCH).run(name, way)
        if result:
            tried.append({"way": asdict(way), "speed": result["speed"]})
            print(f"  {bench.shape} {name:9} {way}: {result['speed']:,.0f}", flush=True)
    if not tried:
        return None
    return Way(**max(tried, key=lambda row: float(row["speed"]))["way"]), tried


def contestants(options: argparse.Namespace) -> list[str]:
    names = [OURS]
    if all(map(importlib.util.find_spec, ("transformers", "accelerate"))):
        names.append("trainer")
    if importlib.util.find_spec("litgpt"):
        names.append("litgpt")
    if options.nanochat:
        names.append("nanochat")
    return [name for name in names if not options.only or name in options.only]


def measured(bench: Bench, chosen: dict[str, Way], rounds: int) -> dict[str, Any]:
    """One shape's row: the rounds, alternating."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for name, way in chosen.items():
            result = bench.run(name, way)
            if result:
                runs[name].append(result)
    config = by_name(bench.shape)
    limits = [Limits(**result["limits"]) for results in runs.values() for result in results]
    peak, work = Limits.best(limits), operations(config, bench.context)
    entries = {}
    for name, results in runs.items():
        speed = statistics.median(result["speed"] for result in results)
        top = peak.bf16 if chosen[name].dtype == "bf16" and peak.bf16 else peak.f32
        entries[name] = {
            "way": asdict(chosen[name]),
            "speed": speed,
            "share": speed * work / top,
            "memory": max(result["memory"] for result in results),
            "best": bench.sequences * bench.context / min(min(result["seconds"]) for result in results),
            "all": [result["speed"] for result in results],
        }
    return {"shape": bench.shape, "malloc": bench.malloc, "peak": asdict(peak), "contestants": entries}


def told(row: dict[str, Any]) -> str:
    entries = row["contestants"]
    mine = entries.get(OURS)
    f32, bf16 = row["peak"]["f32"] / 1e12, (row["peak"]["bf16"] or 0) / 1e12
    lines = [f"{row['shape']}  peak f32 {f32:.2f}, bf16 {bf16:.2f} Tflop/s"]
    for name, entry in entries.items():
        ratio = ""
        if mine and name != OURS:
            ratio = f"   ours / theirs {mine['speed'] / entry['speed']:.2f}, {mine['best'] / entry['best']:.2f}"
        way = Way(**entry["way"])
        lines.append(
            f"  {name:9} {entry['speed']:8,.0f} tokens/s   fastest {entry['best']:8,.0f}   "
            f"{entry['share']:4.0%} of the peak   {entry['memory']:6,.0f} MB   ({way}){ratio}"
        )
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["stories-15m"]
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=names, help="by name (stories-15m)")
    parser.add_argument("--sequences", type=int, default=8, metavar="N", help="of an update (8)")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="tokens of a sequence (512)")
    parser.add_argument(
        "--micros",
        type=lambda text: [int(word) for word in text.split(",")],
        default=[8, 4, 2],
        help="sequences at once to try (8,4,2)",
    )
    parser.add_argument("--threads", type=int, default=NativeOps().threads, metavar="N", help="one per core")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="that each run is timed for (10)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often everyone is measured (3)")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,..", help="these contestants")
    parser.add_argument("--ways", type=Path, metavar="FILE", help="best settings, as --json wrote them: no search")
    parser.add_argument("--malloc", action="store_true", help="freed memory is kept for all contestants")
    parser.add_argument("--under", default="", metavar="COMMAND", help="that starts each run, such as 'taskset -c 0,1'")
    parser.add_argument("--nanochat", metavar="PATH", help="checkout of github.com/karpathy/nanochat")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    return parser.parse_args()


def known_ways(path: Path, shape: str) -> dict[str, Way]:
    """The settings that an earlier run found best."""
    rows = json.loads(path.read_text())
    return {
        name: Way(**entry["way"]) for row in rows if row["shape"] == shape for name, entry in row["contestants"].items()
    }


def main() -> None:
    options = parsed()
    rows: list[dict[str, Any]] = []
    for shape in options.shapes:
        shared = {
            key: getattr(options, key)
            for key in ("sequences", "context", "threads", "seconds", "nanochat", "malloc", "under")
        }
        bench = Bench(shape, **shared)
        chosen = known_ways(options.ways, shape) if options.ways else {}
        tried = {}
        for name in contestants(options):
            found = None if name in chosen else best_way(bench, name, options.micros)
            if found:
                chosen[name], tried[name] = found
        row = measured(bench, {name: chosen[name] for name in contestants(options) if name in chosen}, options.rounds)
        rows.append(row | {"tried": tried})
        print(told(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
