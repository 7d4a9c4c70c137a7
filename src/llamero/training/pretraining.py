"""A pretraining run from its data to a file that everything loads: prepare, train or go on, export."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import torch

from llamero.errors import SettingError
from llamero.formats.blocks import TYPES
from llamero.formats.lineage import lineage
from llamero.formats.lock import alone
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.training.checkpoints.averaging import average, last_checkpoints
from llamero.training.checkpoints.saver import Keep
from llamero.training.data.prepare import Data, Prepared, prepare
from llamero.training.export import check_kind, export
from llamero.training.folder import Folder
from llamero.training.interruption import Interruption
from llamero.training.journal import Journal
from llamero.training.listener import Listener
from llamero.training.loop import Run, Settings
from llamero.training.observer import Observer
from llamero.training.parameters import arrays, drawn
from llamero.training.precision import dtype_of
from llamero.training.presets import preset
from llamero.training.pretrain import NextToken
from llamero.training.recipe import DType, Recipe
from llamero.training.team.crew import Crew, join
from llamero.training.team.layout import Layout
from llamero.training.team.sharded import place
from llamero.training.team.team import Alone, Team

_KEPT_AS: Final = {"rate": "schedule.peak", "batch": "sequences", "optimizer": "constants.kind"}  # by a checkpoint


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
    layout: str | None = None,
    threads: int | None = None,
    listener: Listener | None = None,
    **settings: Any,
) -> Path | None:
    """Raise a Llama after the preset `name` (see `PRESETS`), with other values for some of its settings.

    text: files to learn from; or shards: a folder of them, or several as FOLDER=SHARE, with their tokenizer. out: the
    run's folder; the same call goes on with a run that was stopped. workers: processes that tokenize. until: stop after
    so many steps. allow_change: settings that a run that goes on may change. layout: how the processes that torchrun
    started share the work, such as "shard=4,tensor=2" (see layout.py); None cuts the state over all of them. See
    `pretrain`, which this calls.
    """
    recipe = preset(name, **settings)
    data = Data(_paths(text), _paths(shards), None if tokenizer is None else Path(tokenizer), workers)
    for what, count in (("threads", threads), ("until", until)):
        if count is not None and count < 1:
            raise SettingError(f"{what} must be at least 1, got {count}")
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = None if layout is None else Layout.parse(layout)
    with join(chosen, device) as team:
        return pretrain(
            recipe,
            data,
            Folder(Path(out)),
            name=name,
            until=until,
            allow_change=(allow_change,) if isinstance(allow_change, str) else allow_change,
            team=team,
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
    team: Team | None = None,
    listener: Listener | None = None,
) -> Path | None:
    """Train to the recipe's last step and write the model -> its path; None where the run stopped before.

    It stops at step `until`, and after the step in which Ctrl-C or SIGTERM comes; the same call goes on exactly. Of a
    team all processes call it; the one that leads writes and tells. Raises SettingError for settings that contradict
    each other or the run in the folder, before anything long begins, and where another process is at that run.
    """
    team = team or Alone()
    listener = listener if listener is not None and team.lead else Listener()
    check_kind(TYPES[recipe.export], recipe.model)
    TorchOps(team.device)  # refuses a device that is not here
    lineage.check_free(folder.path, "run")
    recipe = replace(recipe, dtype=_dtype(recipe, folder, team))
    prepared = _prepared(recipe, data, folder, team, listener)
    with alone(folder.path, wait=False) if team.lead else nullcontext():
        return _pretrain(prepared, folder, name, until, allow_change, team, listener)


def _pretrain(
    prepared: Prepared,
    folder: Folder,
    name: str,
    until: int | None,
    allow_change: Collection[str],
    team: Team,
    listener: Listener,
) -> Path | None:
    """From data that is ready to the model, in a folder that is held."""
    recipe = prepared.recipe
    settings = {"preset": name, "settings": recipe.flat(), "data": prepared.source.origin}
    listener.ready(settings)
    run, objective = _begin(prepared, folder, team, name, allow_change)
    listener.begin(settings, run.step)
    stop = Interruption(lambda signal: listener.note(f"{signal}: finishing this step, then saving; once more ends it"))
    with closing(Journal(folder.path if team.lead else None, run.step)) as journal, stop:
        run.train(Observer(run, objective, prepared, folder, journal, listener), until, stop)
    if run.step < recipe.steps:
        listener.note(f"stopped and saved after step {run.step} of {recipe.steps}; the same command goes on from there")
        return None
    if team.lead:
        _export(recipe, prepared, folder, run)
        words = shlex.join(["llamero", "run", "-m", str(folder.model), recipe.prompt or "Once"])
        listener.note(f"wrote {folder.model}; it speaks with: {words}")
    return folder.model


def _prepared(recipe: Recipe, data: Data, folder: Folder, team: Team, listener: Listener) -> Prepared:
    """What one process prepares, which all others find ready."""
    if isinstance(team, Crew):
        team.layout.check(recipe.model, recipe.model.context, recipe.batches().unit // recipe.model.context)
    prepared = prepare(recipe, data, folder, listener) if team.lead else None
    team.barrier()
    return prepared or prepare(recipe, data, folder, listener)


def _dtype(recipe: Recipe, folder: Folder, team: Team) -> DType:
    """The type of arithmetic: what is asked for; of "auto" what was chosen once, or by the process that leads now."""
    if recipe.dtype != "auto":
        return recipe.dtype
    faster: DType = "bf16" if dtype_of("auto", team.device) == torch.bfloat16 else "f32"
    before = folder.settings().get("dtype")
    return cast(DType, team.exchange(before or faster)[0])


def _begin(
    prepared: Prepared, folder: Folder, team: Team, name: str, allow_change: Collection[str]
) -> tuple[Run, NextToken]:
    """The run, fresh or as it was saved, and what it learns; the folder says what it is."""
    recipe = prepared.recipe
    placed = place(team, recipe.model, partial(drawn, recipe.model, recipe.seed), dtype_of(recipe.dtype))
    objective = NextToken(
        placed.ops, placed.weights, recompute=recipe.recompute, stream=placed.stream, z_loss=recipe.z_loss
    )
    settings = {"preset": name, **recipe.flat()}
    made_by = lineage.compose("run", name=folder.name, parents=prepared.parents, settings=settings)
    changes = _following(allow_change, recipe)
    run = Run(placed.parameters, objective, prepared.source, _settings(recipe), folder.path, changes, team, made_by)
    if team.lead:
        lineage.write(folder.path, made_by, living=True)
        folder.describe({"preset": name, "settings": recipe.flat(), "data": prepared.source.origin})
    return run, objective


def _following(allow_change: Collection[str], recipe: Recipe) -> set[str]:
    """The settings that may change, with those that follow from another horizon."""
    changes = {_KEPT_AS.get(name, name) for name in allow_change}
    if changes & {"steps", "schedule.steps"}:
        changes |= {"schedule.warmup"} if recipe.schedule == "cosine" else {"schedule.warmup", "schedule.decay"}
    return changes


def _export(recipe: Recipe, prepared: Prepared, folder: Folder, run: Run) -> Path:
    """The finished model's file: the last weights, or the mean of the last checkpoints."""
    chosen = last_checkpoints(folder.checkpoints, recipe.average)
    here = recipe.average == 1 and run.team.processes == 1
    values = arrays(run.parameters) if here else average(chosen)
    about = prepared.tokenizer.to_gguf() | _lineage(folder, chosen, recipe)
    about |= {"general.name": folder.name}
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
