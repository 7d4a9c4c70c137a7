"""A pretraining run from its data to a file that everything loads: prepare, train or go on, export."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llamero.formats import lineage
from llamero.formats.blocks import TYPES
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.training.averaging import average, last_checkpoints
from llamero.training.export import check_kind, export
from llamero.training.folder import Folder
from llamero.training.interruption import Interruption
from llamero.training.journal import Journal
from llamero.training.listener import Listener
from llamero.training.loop import Run, Settings
from llamero.training.observer import Observer
from llamero.training.parameters import arrays, fresh, weights
from llamero.training.precision import dtype_of
from llamero.training.prepare import Data, prepare
from llamero.training.presets import preset
from llamero.training.pretrain import NextToken
from llamero.training.recipe import Recipe
from llamero.training.saver import Keep


def train(
    name: str,
    *,
    out: str | Path,
    text: str | Path | Sequence[str | Path] = (),
    shards: str | Path | Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    workers: int = 1,
    until: int | None = None,
    allow_change: Collection[str] = (),
    device: str = "cpu",
    threads: int | None = None,
    listener: Listener | None = None,
    **settings: Any,
) -> Path | None:
    """Raise a Llama after the preset `name` (see `PRESETS`), with other values for some of its settings.

    text: files to learn from; or shards: a folder of them, or several as FOLDER=SHARE, with their tokenizer. out: the
    run's folder; the same call goes on with a run that was stopped. workers: processes that tokenize. until: stop after
    so many steps.
    allow_change: settings that a run that goes on may change. See `pretrain`, which this calls.
    """
    data = Data(_paths(text), _paths(shards), None if tokenizer is None else Path(tokenizer), workers)
    if threads is not None:
        torch.set_num_threads(threads)
    return pretrain(
        preset(name, **settings),
        data,
        Folder(Path(out)),
        name=name,
        until=until,
        allow_change=allow_change,
        device=device,
        listener=listener,
    )


def pretrain(
    recipe: Recipe,
    data: Data,
    folder: Folder,
    *,
    name: str = "",
    until: int | None = None,
    allow_change: Collection[str] = (),
    device: str = "cpu",
    listener: Listener | None = None,
) -> Path | None:
    """Train to the recipe's last step and write the model -> its path; None where the run stopped before.

    It stops at step `until`, and after the step in which Ctrl-C or SIGTERM comes; the same call goes on exactly. Raises
    SettingError for settings that contradict each other or the run in the folder, before anything long begins.
    """
    listener = listener or Listener()
    check_kind(TYPES[recipe.export], recipe.model)
    ops, recipe = _ops(recipe, device, folder)
    prepared = prepare(recipe, data, folder, listener)
    recipe = prepared.recipe
    parameters = fresh(recipe.model, recipe.seed, device)
    objective = NextToken(ops, weights(recipe.model, parameters), recompute=recipe.recompute, z_loss=recipe.z_loss)
    settings = {"preset": name, **recipe.flat()}
    made_by = lineage.compose("run", name=folder.path.resolve().name, parents=prepared.parents, settings=settings)
    run = Run(parameters, objective, prepared.source, _settings(recipe), folder.path, allow_change, made_by=made_by)
    lineage.write(folder.path, made_by, living=True)
    described = {"preset": name, "settings": recipe.flat(), "data": prepared.source.origin}
    folder.describe(described)
    listener.begin(described, run.step)
    stop = Interruption(lambda signal: listener.note(f"{signal}: finishing this step, then saving; once more ends it"))
    with closing(Journal(folder.path, run.step)) as journal, stop:
        run.train(Observer(run, objective, prepared, folder, journal, listener), until, stop)
    if run.step < recipe.steps:
        listener.note(f"stopped and saved after step {run.step} of {recipe.steps}; the same command goes on from there")
        return None
    chosen = last_checkpoints(folder.checkpoints, recipe.average)
    values = arrays(parameters) if recipe.average == 1 else average(chosen)
    about = prepared.tokenizer.to_gguf() | {"general.name": folder.path.name} | _lineage(folder, chosen, recipe)
    return export(folder.model, recipe.model, values, about, TYPES[recipe.export])


def _lineage(folder: Folder, checkpoints: Sequence[Path], recipe: Recipe) -> dict[str, str]:
    """The model's, from its checkpoints; of the time of the last, so that writing it again changes nothing."""
    parents = [*(("checkpoint", path) for path in checkpoints), ("tokenizer", folder.vocabulary)]
    settings = {"stored as": recipe.export, "steps": recipe.steps}
    made_by = lineage.compose("model", name=folder.model.name, parents=parents, settings=settings)
    then = lineage.read(checkpoints[-1])
    if then is not None:
        record = replace(made_by.record, made=then.record.made, command=then.record.command)
        made_by = replace(made_by, record=record)
    return lineage.inside(folder.model, made_by)


def _ops(recipe: Recipe, device: str, folder: Folder) -> tuple[TorchOps, Recipe]:
    """The device, and the recipe with its type of arithmetic chosen: a run that goes on keeps what was chosen once."""
    ops = TorchOps(device)
    chosen = recipe.dtype
    if chosen == "auto":
        chosen = folder.settings().get("dtype") or ("bf16" if dtype_of("auto", device) == torch.bfloat16 else "f32")
    ops.dtype = dtype_of(chosen, device)
    return ops, replace(recipe, dtype=chosen)


def _settings(recipe: Recipe) -> Settings:
    """The loop's settings; `also`: what of the recipe decides the result and is not the loop's matter."""
    model = {f"model.{key}": value for key, value in recipe.flat().items() if key in Config.__dataclass_fields__}
    return Settings(
        schedule=recipe.rates(),
        constants=recipe.constants(),
        limits=recipe.limits(),
        micro=recipe.at_once,
        save_every=recipe.save_every,
        keep=Keep(recipe.keep, recipe.keep_every),
        also={"dtype": recipe.dtype, "z_loss": recipe.z_loss} | model,
    )


def _paths(given: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, (str, Path)) else tuple(map(Path, given))
