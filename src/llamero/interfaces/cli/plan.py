"""`llamero plan`: what a training run will need and take, before it is started."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from typing import get_args

from llamero.errors import SettingError, nearest
from llamero.model.family import FAMILY
from llamero.training.planning.hardware import GPUS, DType, Hardware, cpu, gpu
from llamero.training.planning.planner import Plan, propose, remedies
from llamero.training.planning.task import Task
from llamero.training.presets import PRESETS
from llamero.training.team.layout import Layout

EXAMPLES = """\
examples:
  llamero plan 15m                                              on this machine, whose speed is measured
  llamero plan llama-1-65b --kind a100 --devices 2048
  llamero plan llama-3.1-8b --kind h100 --devices 64 --tokens 15e12 --price 2.50
  llamero plan llama-3.1-405b --kind h200 --devices 2048 --layout shard=256,tensor=8
  llamero plan llama-3.1-70b --kind h100 --devices 512 --context 131072 --json | jq .memory

Counted are products with matrices and causal attention. Times are those of a well-tuned run without stops; validation,
saving and repairs come on top. The share of the peak that training reaches is LLaMA's on A100 and Llama 3's on H100.
"""
_GIB = 1 << 30
_MOST_DEVICES = 1 << 20
_TOKENS = 20  # for each weight (Hoffmann et al. 2022, table 3)
_PARTS = {
    "weights": "float32, the optimiser's copy",
    "gradients": "float32",
    "optimizer": "moments in float32",
    "activations": "kept for the way back",
    "logits": "of some rows at once",
    "working": "copies to compute with, gradients on their way",
}
_TIMES = {
    "computing": "products and attention",
    "again": "what is recomputed to save memory",
    "bubbles": "a pipeline's",
    "matrices": "sums over cut matrices",
    "sequences": "keys and values on their way",
    "state": "shards and gradients that wait",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("preset", metavar="PRESET", help="a recipe such as llama-1-7b or 110m, or another Llama")
    parser.add_argument("--devices", type=int, metavar="N", help="how many (the layout's, or 1)")
    parser.add_argument("--kind", default="cpu", metavar="NAME", help=f"{', '.join(GPUS)}, or this machine's cpu (cpu)")
    parser.add_argument("--context", type=_count, metavar="N", help="tokens of a sequence (the preset's; at most 8192)")
    parser.add_argument(
        "--batch", type=_count, metavar="N", help="tokens of a step (the preset's; 4194304, on a cpu 32768)"
    )
    parser.add_argument(
        "--tokens", type=_count, metavar="N", help="tokens of the whole run (the preset's; 20 for each weight)"
    )
    parser.add_argument("--dtype", choices=get_args(DType), help="arithmetic (the preset's; bf16)")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="(the preset's; adamw)")
    parser.add_argument(
        "--layout", metavar="WAY=N,..", help="replicate, shard, context, tensor (the fastest that fits)"
    )
    parser.add_argument(
        "--micro", type=int, default=0, metavar="N", help="sequences at once on a device (all that fit)"
    )
    parser.add_argument("--recompute", type=int, metavar="N", help="one of every N layers on the way back; 0: none")
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="of a device (all of a GPU's; half of this machine's)"
    )
    parser.add_argument("--price", type=float, metavar="X", help="of a device's hour, in any currency")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Plan a run."""
    layout = Layout.parse(args.layout) if args.layout else None
    devices = args.devices if args.devices is not None else layout.devices if layout else 1
    _check(args, devices)
    hardware = _hardware(args)
    found = propose(_task(args, hardware), devices, hardware, layout, args.micro, args.recompute)
    helps = [] if found.fits else remedies(found)
    if args.json:
        cost = {} if args.price is None else {"cost": found.device_hours * args.price}
        print(json.dumps(found.as_json() | cost | {"remedies": helps}))
    else:
        print("\n".join(_lines(found, args.preset, args.price)))
    if found.fits:
        return 0
    print(f"llamero plan: {_refusal(found, helps)}", file=sys.stderr)
    return 1


def _check(args: argparse.Namespace, devices: int) -> None:
    if not 1 <= devices <= _MOST_DEVICES:
        raise SettingError(f"--devices must be from 1 to {_MOST_DEVICES:,}, got {devices:,}")
    if args.memory is not None and not 0 < args.memory < math.inf:
        raise SettingError(f"--memory must be positive, got {args.memory:g}")
    for name in ("micro", "recompute", "price"):
        if (given := getattr(args, name)) is not None and not 0 <= given < math.inf:
            raise SettingError(f"--{name} must be a number from 0 up, got {given:g}")


def _count(text: str) -> int:
    """A whole number, also as 15e12 or 4M."""
    powers = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
    try:
        scale = powers.get(text[-1:].lower(), 0.0)
        number = float(text[:-1]) * scale if scale else float(text)
        if number < 1 or number != int(number):
            raise ValueError
        return int(number)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1, such as 4096 or 1e9") from None


def _task(args: argparse.Namespace, hardware: Hardware) -> Task:
    """By a preset, what is not given is the preset's; by another Llama's name there are defaults."""
    recipe = PRESETS.get(args.preset)
    if recipe is None and args.preset not in FAMILY:
        raise SettingError(
            f"no preset or Llama is called {args.preset!r} ({nearest(args.preset, {*PRESETS, *FAMILY})})"
        )
    config = recipe.model if recipe else FAMILY[args.preset]
    context = args.context or min(config.context, 8192)
    batch = args.batch or (recipe.batch if recipe else 32768 if args.kind == "cpu" else 4 << 20)
    tokens = args.tokens or (recipe.batches().before(recipe.steps) if recipe else _TOKENS * config.parameters)
    if not args.batch:
        batch = max(batch // context, 1) * context
    usual: DType = "bf16" if hardware.peak["bf16"] > hardware.peak["f32"] else "f32"
    dtype = recipe.dtype if recipe and recipe.dtype != "auto" else usual
    return Task(
        config, context, batch, tokens, args.dtype or dtype, args.optimizer or (recipe.optimizer if recipe else "adamw")
    )


def _hardware(args: argparse.Namespace) -> Hardware:
    if args.kind == "cpu":
        from llamero.ops.limits import measure_limits
        from llamero.ops.native_ops import NativeOps

        found = cpu(measure_limits(NativeOps()))
    else:
        found = gpu(args.kind)
    return replace(found, memory=args.memory * _GIB) if args.memory else found


def _lines(found: Plan, name: str, price: float | None) -> list[str]:
    task, way, hardware = found.task, found.way, found.hardware
    weights, peak = task.config.parameters, hardware.peak[task.dtype]
    at_once = f"{way.micro} sequence{'s' if way.micro > 1 else ''} at once, {way.rounds(task)} times a step"
    lines = [
        f"model       {name}: {_short(weights)} weights, {task.tokens / weights:.3g} tokens for each",
        f"task        {_short(task.tokens)} tokens, {task.sequences:,} sequences of {task.context:,} a step, "
        f"{task.dtype}, {task.optimizer}",
        f"devices     {way.devices:,} {hardware.kind}, each {peak / 1e12:.3g} T operations/s at most",
        f"layout      {way.layout}; {at_once}; recompute {way.recompute}",
        "memory      of one device",
        *(f"  {part:11} {size / _GIB:10.3f} GiB  {_PARTS[part]}" for part, size in asdict(found.memory).items()),
        f"  {'total':11} {found.memory.total / _GIB:10.3f} GiB  of {hardware.usable / _GIB:.3g} that can be used",
        f"  {'copy':11} {found.memory.copy / _GIB:10.3f} GiB  more of the host's, while a checkpoint is written",
        f"operations  {_short(found.operations)} a token, {found.operations * task.tokens:.3g} in all",
        "time        of one step",
    ]
    lines += [f"  {part:11} {took:10.3f} s    {_TIMES[part]}" for part, took in asdict(found.pace).items() if took]
    lines += [
        f"  {'total':11} {found.pace.total:10.3f} s    {found.speed:,.0f} tokens/s; {found.rate / 1e12:.3g} T "
        f"operations/s a device, {found.utilisation:.1%} of the peak",
        f"run         {found.steps:,} steps, {_time(found.seconds)}; {found.device_hours:,.1f} device hours",
    ]
    return lines if price is None else [*lines, f"cost        {found.device_hours * price:,.2f}"]


def _refusal(found: Plan, helps: list[str]) -> str:
    needed, there = found.memory.total / _GIB, found.hardware.usable / _GIB
    most = max(asdict(found.memory).items(), key=lambda part: part[1])
    would = "; or ".join(helps) or "a smaller model or context"
    return (
        f"this does not fit: {needed:.3g} GiB are needed and {there:.3g} can be used, most for {most[0]} "
        f"({most[1] / _GIB:.3g} GiB). What would fit: {would}"
    )


def _short(number: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:.4g}"


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
