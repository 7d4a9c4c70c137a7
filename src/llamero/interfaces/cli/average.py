"""`llamero average`: the mean of several checkpoints of a run, as a model's file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from llamero.errors import ModelNotFound, SettingError
from llamero.formats.blocks import TYPES
from llamero.formats.lineage import lineage
from llamero.interfaces.cli.progress import progress
from llamero.training.recipe import Export

if TYPE_CHECKING:
    from llamero.training.folder import Folder

EXAMPLES = """\
examples:
  llamero average runs/my --last 3 --out mean.gguf       the three newest checkpoints
  llamero average runs/my/checkpoints/step-00001000 runs/my/checkpoints/step-00001200 --out mean.gguf
  llamero train tiny --text stories.txt --out runs/my --average 3     the same at the end of a run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("path", type=Path, nargs="+", metavar="PATH", help="a run's folder, or some of its checkpoints")
    parser.add_argument("--last", type=int, metavar="N", help="of a run: how many of the newest (all)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the GGUF file to write")
    parser.add_argument("--export", default="F16", choices=get_args(Export), help="how matrices are stored (F16)")


def run(args: argparse.Namespace) -> int:
    """Average and write."""
    from llamero.training.checkpoints.averaging import average
    from llamero.training.export import check_kind, export

    folder, chosen = _chosen(args)
    config, tokenizer, kind = folder.config(), folder.tokenizer(), TYPES[args.export]
    check_kind(kind, config)
    with progress("reading", "checkpoints") as bar:
        weights = average(chosen, bar)
    parents = [*(("checkpoint", path) for path in chosen), *((("tokenizer", folder.vocabulary),) if tokenizer else ())]
    made_by = lineage.compose("model", name=args.out.name, parents=parents, settings={"stored as": args.export})
    about = {"general.name": folder.name} | (tokenizer.to_gguf() if tokenizer else {})
    about |= lineage.inside(args.out, made_by)
    export(args.out, config, weights, about, kind)
    print(f"{args.out}: the mean of {', '.join(path.name for path in chosen)}")
    return 0


def _chosen(args: argparse.Namespace) -> tuple[Folder, list[Path]]:
    """The run's folder, and those of its checkpoints that are meant."""
    from llamero.training.checkpoints.averaging import last_checkpoints
    from llamero.training.checkpoints.checkpoint import steps
    from llamero.training.checkpoints.manifest import NAME as MANIFEST
    from llamero.training.folder import Folder

    if args.last is not None and args.last < 1:
        raise SettingError(f"--last must be at least 1, got {args.last}")
    for path in args.path:
        if not path.is_dir():
            wrong = "is no folder" if path.exists() else "is not there"
            raise ModelNotFound(f"{path} {wrong}; give a run's folder, or checkpoints of one")
    if (args.path[0] / "checkpoints").is_dir():
        if len(args.path) > 1:
            raise SettingError("give one run, or several checkpoints of one")
        folder = Folder(args.path[0])
        last = max(len(steps(folder.checkpoints)), 1) if args.last is None else args.last
        return folder, last_checkpoints(folder.checkpoints, last)
    if args.last is not None:
        raise SettingError("--last belongs to a run's folder")
    chosen = [path.resolve() for path in args.path]
    for given, path in zip(args.path, chosen, strict=True):
        if not (path / MANIFEST).is_file():
            raise ModelNotFound(
                f"{given} is no checkpoint: it holds no {MANIFEST}; give a run's folder, or checkpoints of one"
            )
        if path.parents[1] != chosen[0].parents[1]:
            raise SettingError(f"{args.path[0]} and {given} are of different runs; give checkpoints of one")
    return Folder(chosen[0].parents[1]), chosen
