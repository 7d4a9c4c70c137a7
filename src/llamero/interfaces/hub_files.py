"""Which of a repository's files make a model. Knows names and sizes, no network and no disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llamero.errors import ModelNotFound, nearest

# Good quality for its size first; what a laptop can hold before what it cannot.
_PREFERRED = (
    *("Q4_K_M", "Q4_K_S", "Q4_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1"),
    *("Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "BF16", "F16", "F32"),
)
_QUANT = re.compile(r"(?i)(?:^|[-_.])(I?Q\d[A-Z0-9_]*|BF16|F16|F32)(?=[-.]|$)")
_HUB = re.compile(r"(https?://)?(huggingface|hf)\.co/")
_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.(?:gguf|safetensors)$)")
_NOT_MODELS = ("mmproj", "imatrix")
_SIDE_FILES = (
    *("config.json", "generation_config.json", "params.json", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json"),
)


@dataclass(frozen=True)
class Chosen:
    """The files of one model, and what was picked among several: a quantisation, or a file's name."""

    files: tuple[str, ...]
    label: str | None


def parse_name(name: str) -> tuple[str, str | None]:
    """ "owner/name:variant", maybe with the hub's address before it -> its two halves."""
    repo, _, variant = _HUB.sub("", name, count=1).partition(":")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ModelNotFound(f"{name!r} is not a model's name at a hub; it has the form owner/name or owner/name:Q4_K_M")
    return repo, variant or None


def choose(repo: str, files: Iterable[str], variant: str | None = None) -> Chosen:
    """The files that make the model `variant` of a repository, a quantisation such as Q4_K_M or a file's name.

    Without a variant: the GGUF whose quantisation comes first in our order of preference, or a Hugging Face or Meta
    folder. Raises ModelNotFound naming what there is.
    """
    names = sorted(files)
    models = _gguf_models(names)
    if models:
        label = _pick(repo, models, variant)
        return Chosen(models[label], label)
    if variant is not None and variant in names:
        return Chosen((variant,), variant)
    folder = _folder(names)
    if variant is None and folder:
        return Chosen(folder, None)
    what = f"no {variant}" if variant else "neither GGUF nor safetensors weights"
    raise ModelNotFound(f"{repo} holds {what} that llamero could run")


def _gguf_models(names: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """GGUF models by the name of their first part, with all their parts."""
    models: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(".gguf") and not any(word in name.lower() for word in _NOT_MODELS):
            models.setdefault(_PART.sub("-00001-of-\\2", name), []).append(name)
    return {name: tuple(parts) for name, parts in models.items()}


def _pick(repo: str, models: Mapping[str, tuple[str, ...]], variant: str | None) -> str:
    quants = {name: quant_of(name) for name in models}
    if variant is not None:
        matches = [name for name in models if variant in (name, *models[name]) or quants[name] == variant.upper()]
        if not matches:
            known = sorted({quant or name for name, quant in quants.items()})
            raise ModelNotFound(f"{repo} has no {variant!r} ({nearest(variant.upper(), known)})")
        return matches[0]

    def rank(name: str) -> tuple[int, str]:
        quant = quants[name]
        return (_PREFERRED.index(quant) if quant in _PREFERRED else len(_PREFERRED), name)

    return min(models, key=rank)


def quant_of(file: str) -> str | None:
    """The quantisation that a file's name tells, such as Q4_K_M."""
    stem = _PART.sub("", file.rpartition("/")[2]).removesuffix(".gguf")
    found = _QUANT.findall(stem)
    return found[-1].upper() if found else None


def _folder(names: list[str]) -> tuple[str, ...]:
    """The files of a Hugging Face folder, or else of a Meta folder, at the top or under original/."""
    weights = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    if "config.json" in names and weights:
        whole = [name for name in weights if name.startswith("model")] or weights
        return tuple(sorted([*whole, *(name for name in names if name in _SIDE_FILES and name != "params.json")]))
    for folder in ("", "original/"):
        shards = [name for name in names if re.fullmatch(rf"{folder}consolidated\.\d\d\.pth", name)]
        if shards and f"{folder}params.json" in names:
            side = [name for name in names if name.removeprefix(folder) in _SIDE_FILES and name.startswith(folder)]
            return tuple(sorted([*shards, *(name for name in side if "/" not in name.removeprefix(folder))]))
    return ()
