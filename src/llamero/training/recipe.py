"""Every setting of a pretraining run in one flat record: what a preset gives, a flag changes, and run.json keeps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from llamero.errors import ConfigError, SettingError, nearest
from llamero.model.config import Config
from llamero.training.constants import Constants, Kind
from llamero.training.data.ramp import Ramp
from llamero.training.guard import Limits
from llamero.training.schedule import Cosine, Plateau, Schedule, linear

Curve = Literal["cosine", "wsd", "linear"]
DType = Literal["auto", "f32", "bf16"]
Packing = Literal["stream", "masked", "whole"]
Export = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q5_0", "Q4_0"]
Learner = Literal["bpe", "sentencepiece"]
_MICRO_TOKENS: Final = 4096  # differentiated at once unless `micro` says otherwise


@dataclass(frozen=True)
class Recipe:
    """How a Llama is raised. `model.context` is the length of the windows that it is trained on.

    Raises SettingError for settings that contradict each other.
    """

    model: Config
    steps: Annotated[int, "steps in all: the horizon of the schedule"]
    batch: Annotated[int, "tokens of a step"]
    rate: Annotated[float, "peak learning rate"]
    warmup: Annotated[int, "steps until the peak (the preset's, at most a tenth of the steps)"]
    schedule: Annotated[Curve, "after the peak: cosine, linear, or wsd (level, then down in a line)"] = "cosine"
    floor: Annotated[float, "share of the peak at the end (cosine: 0.1; linear, wsd: 0)"] = 0.1
    cooldown: Annotated[int, "steps of the descent that ends wsd (a fifth of the steps)"] = 0
    ramp: Annotated[str, "smaller batches at first: TOKENS:BATCH[@CONTEXT],.. each from so many tokens on"] = ""
    optimizer: Annotated[Kind, "adamw, or muon for the layers' matrices"] = "adamw"
    beta1: Annotated[float, "how slowly the mean gradient changes"] = 0.9
    beta2: Annotated[float, "how slowly the mean squared gradient changes"] = 0.95
    epsilon: Annotated[float, "added to the root of the mean squared gradient"] = 1e-8
    decay: Annotated[float, "weight decay of matrices"] = 0.1
    clip: Annotated[float, "largest norm of all gradients together"] = 1.0
    z_loss: Annotated[float, "weight of the squared logarithm of the softmax's sum (0: off)"] = 0.0
    packing: Annotated[Packing, "rows of documents: cut from the stream, masked in it, or whole and masked"] = "stream"
    dtype: Annotated[DType, "arithmetic: f32, bf16 over parameters kept in f32, or the faster one"] = "auto"
    recompute: Annotated[int, "recompute one layer of so many for its gradients, to save memory (0: none)"] = 0
    micro: Annotated[int, "windows differentiated at once: memory and speed, not the result (4096 tokens' worth)"] = 0
    learner: Annotated[Learner, "how a vocabulary is learnt: bpe as Llama 3's, sentencepiece as LLaMA's"] = "bpe"
    seed: Annotated[int, "of fresh parameters and of the order of the data"] = 0
    held_out: Annotated[float, "share of the text that is kept for validation"] = 0.01
    validate_every: Annotated[int, "steps between validations (0: only at the end)"] = 100
    sample_every: Annotated[int, "steps between samples (0: only at the end)"] = 0
    prompt: Annotated[str, "how samples begin (the begin token alone)"] = ""
    save_every: Annotated[int, "steps between checkpoints (0: only at the end)"] = 200
    keep: Annotated[int, "how many of the last checkpoints are kept"] = 2
    keep_every: Annotated[int, "keep for ever the checkpoints of every so many steps (0: none)"] = 0
    average: Annotated[int, "how many of the last checkpoints the finished model is the mean of"] = 1
    export: Annotated[Export, "how the finished model's matrices are stored"] = "F16"
    spread: Annotated[float, "skip a step whose loss is so many deviations above the last ones' (0: never)"] = 8.0
    surge: Annotated[float, "skip a step whose gradients are so many times the last ones' (0: never)"] = 10.0
    patience: Annotated[int, "skipped steps in a row that end the run"] = 10

    def __post_init__(self) -> None:
        for name, (kind, _) in _own_settings().items():
            choices, value = get_args(kind), getattr(self, name)
            if choices and value not in choices:
                raise SettingError(f"{name} cannot be {value!r} ({nearest(str(value), choices)})")
        if self.steps < 1:
            raise SettingError(f"a run has at least one step, got {self.steps}")
        context = self.model.context
        if self.batch < 1 or self.batch % context:
            near = max(round(self.batch / context), 1) * context
            raise SettingError(f"batch ({self.batch} tokens) must be whole windows of {context}, such as {near}")
        if self.cooldown and self.schedule != "wsd":
            raise SettingError(f"cooldown belongs to the schedule wsd, not to {self.schedule}")
        if not 0 <= self.held_out <= 0.5:
            raise SettingError(f"held_out is a share of the text from 0 to 0.5, got {self.held_out}")
        for name in ("keep_every", "micro", "recompute", "save_every", "validate_every", "sample_every", "z_loss"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} cannot be negative, got {getattr(self, name)}")
        if not math.isfinite(self.z_loss):
            raise SettingError(f"z_loss must be a finite number, got {self.z_loss}")
        self._check_average()
        self.rates(), self.constants(), self.limits(), self.batches()  # each refuses what is absurd

    def _check_average(self) -> None:
        """Refuse a mean of more checkpoints than there will be, before a run that could not end."""
        if not 1 <= self.average <= self.keep:
            raise SettingError(f"average ({self.average}) is at least 1 and at most what is kept, keep ({self.keep})")
        saved = math.ceil(self.steps / self.save_every) if self.save_every > 0 else 1
        if self.average > saved:
            raise SettingError(
                f"average ({self.average}): a run of {self.steps} steps with save_every {self.save_every} has "
                f"{saved} checkpoint{'s' if saved > 1 else ''} in the end; save more often"
            )

    @property
    def sequences(self) -> int:
        """Windows of one step, once the ramp is over."""
        return self.batch // self.model.context

    @property
    def at_once(self) -> int:
        """Windows differentiated at once."""
        return self.micro or min(max(_MICRO_TOKENS // self.model.context, 1), self.sequences)

    def rates(self) -> Schedule:
        """The learning rate of each step."""
        if self.schedule == "wsd":
            return Plateau(self.rate, self.steps, self.warmup, self.cooldown, self.floor)
        make = Cosine if self.schedule == "cosine" else linear
        return make(self.rate, self.steps, self.warmup, floor=self.floor)

    def constants(self) -> Constants:
        """The optimiser's constants."""
        return Constants(self.beta1, self.beta2, self.epsilon, self.decay, self.clip, self.optimizer)

    def limits(self) -> Limits:
        """What the guard lets pass."""
        return Limits(spread=self.spread, surge=self.surge, patience=self.patience)

    def batches(self) -> Ramp:
        """How many tokens each step has."""
        return Ramp.parse(self.ramp, self.batch, self.model.context)

    def flat(self) -> dict[str, Any]:
        """All settings by name, the model's among them."""
        return asdict(self.model) | {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}


_MODEL: Final = {
    "dim": "width of the residual stream",
    "layers": "how many",
    "heads": "query heads",
    "kv_heads": "heads of keys and values",
    "head_dim": "width of a head",
    "ffn_dim": "inner width of the feed-forward",
    "vocab": "tokens of the vocabulary (a given tokenizer's own)",
    "context": "tokens of a window",
    "norm_eps": "epsilon of the norms",
    "rope_theta": "base of the rotations",
    "tied": "whether embedding and output are one matrix",
}


def _own_settings() -> dict[str, tuple[Any, str]]:
    hints = get_type_hints(Recipe, include_extras=True)
    return {name: get_args(hint)[:2] for name, hint in hints.items() if get_args(hint)}


def settings() -> dict[str, tuple[Any, str]]:
    """Every setting that may be changed by name: its type (a Literal where it is a choice) and what it is."""
    hints = get_type_hints(Config)
    return {name: (hints[name], what) for name, what in _MODEL.items()} | _own_settings()


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other values. What follows from a value follows, unless it is given too.

    Fewer steps shorten the warm-up; a schedule brings its own descent; another batch or context has no ramp;
    as many checkpoints are kept as are averaged. Raises
    SettingError for a name that is no setting, with the nearest that is, and for a value of another type.
    """
    known = settings()
    for name, value in changes.items():
        if name not in known:
            raise SettingError(f"{name!r} is no setting of a training run ({nearest(name, known)})")
        kind = str if get_args(known[name][0]) else known[name][0]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise SettingError(f"{name} must be {kind.__name__}, got {value!r}")
    steps, curve = changes.get("steps", recipe.steps), changes.get("schedule", recipe.schedule)
    follows: dict[str, Any] = {"warmup": min(recipe.warmup, steps // 10)}
    if curve == "wsd":
        follows["cooldown"] = steps // 5
    if curve != recipe.schedule:
        follows["floor"] = 0.1 if curve == "cosine" else 0.0
    if changes.keys() & {"batch", "context"}:
        follows["ramp"] = ""
    if "average" in changes:
        follows["keep"] = max(changes["average"], recipe.keep)
    values = follows | changes
    try:
        model = replace(recipe.model, **{name: values.pop(name) for name in _MODEL if name in values})
    except ConfigError as error:
        raise SettingError(str(error)) from error
    return replace(recipe, model=model, **values)
