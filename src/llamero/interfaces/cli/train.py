"""`llamero train`: from text files to a model, in one folder; the same command goes on with a run that was stopped."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from llamero.corpus.texts import text_files
from llamero.errors import DeviceError, ModelNotFound, SettingError
from llamero.interfaces.cli.terminal import table
from llamero.interfaces.devices import cores

_LARGE = 1 << 25  # bytes of text for which it pays to start more processes

EXAMPLES = """\
examples:
  llamero train tiny --text stories.txt --out runs/my    a vocabulary, a small Llama, and runs/my/model.gguf
  llamero train tiny --text stories.txt --out runs/my    ... goes on where it was stopped, exactly
  llamero run -m runs/my/model.gguf "Once upon a time"
  llamero train 15m --text *.txt --out runs/15m --steps 5000 --batch 65536 --sample-every 500
  llamero train tiny --text a.txt --out runs/wide --dim 256 --heads 8 --kv-heads 4 --ffn-dim 768 --optimizer muon
  llamero train 110m --shards stories/=0.8 books/=2x --tokenizer tokenizer.gguf --out runs/mix
  llamero train 1b --shards corpus/ --tokenizer tokenizer.model --out runs/1b --device cuda
  torchrun --nproc-per-node 8 -m llamero train llama-3-8b --shards web --tokenizer t.json \\
      --out runs/8b --device cuda --layout shard=4,tensor=2
  llamero train tiny --list                              every setting and the preset's value of it

Documents of a text file end where a line says <|endoftext|>. Ctrl-C saves and leaves.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options, and one for each setting of a recipe."""
    from llamero.training.presets import PRESETS
    from llamero.training.recipe import settings

    parser.add_argument("preset", metavar="PRESET", help=f"{', '.join(PRESETS)}")
    group = parser.add_argument_group("data and place")
    group.add_argument("--text", nargs="+", default=(), metavar="FILE", help="UTF-8 text files to learn from")
    group.add_argument(
        "--shards",
        nargs="+",
        default=(),
        metavar="DIR[=SHARE]",
        help="or folders of token shards, mixed as `llamero mix` shows",
    )
    group.add_argument("--tokenizer", metavar="PATH", help="a tokenizer (one is learnt from the text)")
    group.add_argument("--out", metavar="DIR", help="the run's folder")
    group.add_argument("--until", type=int, metavar="N", help="stop after step N, to go on later")
    group.add_argument(
        "--allow-change", action="append", default=[], metavar="NAME", help="a setting that a run going on may change"
    )
    group.add_argument("--device", default="cpu", metavar="cpu|cuda", help="where it runs (cpu)")
    group.add_argument("--layout", metavar="WAY=N,..", help="of processes that torchrun started: replicate, shard, ..")
    group.add_argument("--workers", type=int, metavar="N", help="processes that tokenize (one per core)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (one per core)")
    group = parser.add_argument_group("watching", "RUN/log.jsonl is always written; `llamero plot RUN` draws it")
    group.add_argument("--plain", action="store_true", help="lines instead of a live view")
    group.add_argument("--tensorboard", action="store_true", help="write DIR/tensorboard as well")
    group.add_argument("--wandb", metavar="PROJECT", help="tell Weights & Biases as well")
    group.add_argument("--list", action="store_true", help="show the preset's settings and do nothing")
    group = parser.add_argument_group("settings", "what is not given is the preset's")
    for name, (kind, what) in settings().items():
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=what)
        elif get_args(kind):
            group.add_argument(flag, metavar="|".join(get_args(kind)), help=what)
        else:
            group.add_argument(flag, type=kind, metavar={int: "N", float: "X"}.get(kind, "TEXT"), help=what)


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    from llamero.training.presets import preset
    from llamero.training.recipe import settings

    given: dict[str, Any] = {name: getattr(args, name) for name in settings() if getattr(args, name) is not None}
    if args.list:
        table(preset(args.preset, **given).flat())
        return 0
    if args.out is None:
        raise SettingError("a run needs a folder of its own: give one with --out DIR")
    try:
        from llamero.interfaces.cli.watching import watching
        from llamero.training.pretraining import train
    except ModuleNotFoundError as error:
        raise SettingError(f'training needs {error.name}: pip install "llamero[train]"') from error
    watched = watching(Path(args.out), args.device, args.layout, args.plain, args.tensorboard, args.wandb)
    with watched as listener, _told_of_memory(args.preset):
        train(
            args.preset,
            out=args.out,
            text=args.text,
            shards=args.shards,
            tokenizer=args.tokenizer,
            workers=args.workers if args.workers is not None else cores() if large(args.text) else 1,
            until=args.until,
            allow_change=args.allow_change,
            device=args.device,
            layout=args.layout,
            threads=args.threads,
            listener=listener,
            **given,
        )
    return 0


def large(texts: Sequence[str]) -> bool:
    """Whether it pays to tokenize these files, and those in folders, in several processes."""
    try:
        return sum(file.stat().st_size for file in text_files(map(Path, texts))) > _LARGE
    except ModelNotFound:  # which is told in its turn
        return False


@contextmanager
def _told_of_memory(name: str) -> Iterator[None]:
    """Say what takes less where memory ends."""
    from llamero.training.allocator import memory_ended

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not memory_ended(error):
            raise
        raise DeviceError(
            "out of memory: a smaller --micro, --recompute 1, a shorter --context or a smaller model takes less; "
            f"`llamero plan {name}` says what takes how much"
        ) from error
