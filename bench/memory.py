"""The peak of memory that training takes, measured, beside what the planner says: a process of its own for each shape.

    python bench/memory.py
    python bench/memory.py --shapes 15m,deep --dtypes f32 --recompute 0

Allocated is the most that torch had given out for arrays at once, which is what the planner tells and what a GPU's
allocator reports. Resident is the process's peak of resident memory less what it had after training a toy; the C
library's gaps between arrays are in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, product

from llamero.model.config import Config
from llamero.model.family import by_name
from llamero.training.planning.memory import Memory, memory
from llamero.training.planning.task import Task, Way

DEEP = Config(dim=192, layers=40, heads=6, kv_heads=2, head_dim=32, ffn_dim=512, vocab=4096, context=512, tied=True)
SHAPES: dict[str, tuple[Config, int, int]] = {  # blueprint, context, sequences at once
    "15m": (by_name("stories-15m"), 256, 8),
    "42m": (by_name("stories-42m"), 512, 4),
    "110m": (by_name("stories-110m"), 512, 2),
    "deep": (DEEP, 512, 4),
}
TOY = Config(dim=64, layers=2, heads=4, kv_heads=4, head_dim=16, ffn_dim=176, vocab=512, context=64, tied=True)
STEPS = 2  # the optimiser's moments come with the first


def planned(shape: str, dtype: str, recompute: int) -> Memory:
    """What the planner says, for two micro-batches a step."""
    config, context, micro = SHAPES[shape]
    task = Task(replace(config, context=context), context, 2 * micro * context, 1e9, dtype)  # type: ignore[arg-type]
    return memory(task, Way(micro=micro, recompute=recompute), own_kernels=True)


def measure(kind: str, shape: str, dtype: str, recompute: int) -> float:
    """The peak in bytes, "allocated" or "resident", of two steps in this process, which must be fresh."""
    import numpy as np
    import torch

    from llamero.ops.torch_ops import TorchOps
    from llamero.training.data.batches import Batches
    from llamero.training.data.tokens import Tokens
    from llamero.training.loop import Run, Settings
    from llamero.training.parameters import fresh, weights
    from llamero.training.planning.gauge import Gauge
    from llamero.training.pretrain import NextToken
    from llamero.training.schedule import Cosine

    def train(config: Config, context: int, micro: int) -> None:
        parameters = fresh(config, 0)
        ids = np.random.default_rng(0).integers(0, config.vocab, 4 * micro * context).astype(np.uint16)
        ops = TorchOps("cpu", {"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
        objective = NextToken(ops, weights(config, parameters), recompute=recompute)
        batches = Batches(Tokens.of(ids), context=context, sequences=2 * micro)
        Run(parameters, objective, batches, Settings(Cosine(1e-4, STEPS, 1), micro=micro)).train()

    train(TOY, TOY.context, 2)  # loads what is only loaded when it is needed
    if kind == "allocated":
        return allocated(lambda: train(*SHAPES[shape]))
    gauge = Gauge("cpu")
    train(*SHAPES[shape])
    return gauge.peak()


def allocated(work: Callable[[], None]) -> float:
    """The most bytes that torch's allocator had given out at once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events if event.name() == "[memory]"), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--dtypes", default="f32,bf16")
    parser.add_argument("--recompute", default="0,1")
    parser.add_argument("--kinds", default="allocated,resident")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, shape, dtype, recompute = args.measure
        print(json.dumps(measure(kind, shape, dtype, int(recompute))))
        return
    kinds = args.kinds.split(",")
    print(
        "shape  type  recompute  planned MB " + " ".join(f"{kind:>9}  ratio" for kind in kinds) + "  planned parts, MB"
    )
    for shape, dtype, recompute in product(*(text.split(",") for text in (args.shapes, args.dtypes, args.recompute))):
        told = planned(shape, dtype, int(recompute))
        figures = []
        for kind in kinds:
            command = [sys.executable, __file__, "--measure", kind, shape, dtype, recompute]
            found = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            figures.append(f"{found / 1e6:9,.0f} {found / told.total:6.2f}")
        parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in vars(told).items())
        print(f"{shape:6} {dtype:5} {recompute:>9} {told.total / 1e6:11,.0f} {' '.join(figures)}  {parts}", flush=True)


if __name__ == "__main__":
    main()
