"""What was planned of a run beside what is measured of it, once it is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamero.model.config import Config, RopeScaling
from llamero.training.planning.hardware import DType, Hardware
from llamero.training.planning.planner import Plan, plan
from llamero.training.planning.task import Task, Way
from llamero.training.recipe import Recipe
from llamero.training.team.layout import Layout


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """The recipe from all its settings as run.json has them."""
    scaling = settings.get("rope_scaling")
    model = {name: settings[name] for name in Config.__dataclass_fields__}
    model["rope_scaling"] = RopeScaling(**scaling) if isinstance(scaling, Mapping) else scaling
    rest = {name: value for name, value in settings.items() if name in Recipe.__dataclass_fields__ and name != "model"}
    return Recipe(model=Config(**model), **rest)


def forecast(recipe: Recipe, hardware: Hardware, layout: Layout | None = None) -> Plan:
    """What each process of this run will need and all will take, in the type that was chosen for it."""
    dtype: DType = "bf16" if recipe.dtype == "bf16" else "f32"
    tokens = recipe.batches().before(recipe.steps)
    task = Task(recipe.model, recipe.model.context, recipe.batch, tokens, dtype, recipe.optimizer)
    return plan(task, Way(layout or Layout(), recipe.at_once, recompute=recipe.recompute), hardware)


def beside(found: Plan, speed: float, memory: float) -> str:
    """One line: speed (tokens a second) and memory (bytes; 0 where unknown), planned and measured."""
    share = speed * found.operations / (found.way.devices * found.hardware.peak[found.task.dtype])
    parts = [
        f"forecast {found.speed:,.0f} tokens/s, measured {speed:,.0f} ({speed / found.speed - 1:+.0%}; "
        f"{share:.0%} of the peak)"
    ]
    if memory:
        kind = "resident" if found.hardware.kind == "cpu" else "allocated"  # resident are the gaps between arrays too
        planned = found.memory.total
        parts.append(f"memory forecast {planned / 1e6:,.0f} MB of arrays, measured {memory / 1e6:,.0f} {kind}")
    return "; ".join(parts)
