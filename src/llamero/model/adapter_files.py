"""Reading an adapter (LoRA) of PEFT's or GGUF's, strictly: what cannot be done exactly as meant is refused by name.

That is DoRA, biases, trained embeddings, and methods that changed the base model too. Rows of Q and K come out in our
order (weights.py), whichever layout the file has; the scale becomes part of b.
"""

from __future__ import annotations

import math
import re
from typing import Final

import numpy as np

from llamero.errors import UnsupportedError, WeightsError
from llamero.formats.tensor import Reader
from llamero.model.adapter import Adapter, Matrix
from llamero.model.config import Config
from llamero.model.config_files import check_architecture
from llamero.model.weights import file_name, reorder
from llamero.ops.adapted_ops import LowRank

_PEFT: Final = "base_model.model."
_ENDS: Final = {"hf": (".lora_A.weight", ".lora_B.weight"), "gguf": (".weight.lora_a", ".weight.lora_b")}
_COPIES: Final = (
    "model.embed_tokens.weight",
    "model.embed_tokens.base_layer.weight",
    "lm_head.weight",
    "lm_head.base_layer.weight",
)
_PLAIN_PATTERN: Final = re.compile(r"\^?[A-Za-z0-9_.]+")
_READ: Final = ("peft_type", "r", "lora_alpha", "alpha_pattern", "use_rslora", "init_lora_weights", "bias")
_HARMLESS: Final = (  # they say how it was trained, or what the tensors themselves tell
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
)
_MOST_ALPHA: Final = 1e9
_CHANGES_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")


def read_adapter(reader: Reader, config: Config) -> Adapter[Matrix]:
    """The adapter in an open file, checked against the blueprint of the model it is for.

    Raises UnsupportedError for what llamero cannot do, WeightsError for tensors that are missing, not of this model,
    or not finite; both name what they mean.
    """
    if reader.layout == "gguf":
        _check_gguf(reader)
    else:
        _check_peft(reader)
    pairs = _pairs(reader, config)
    if not pairs:
        raise WeightsError(f"{reader.path} holds no low-rank matrices: it changes nothing")
    return Adapter(reader.path, {ours: _change(reader, config, ours, *names) for ours, names in pairs.items()})


def _check_gguf(reader: Reader) -> None:
    metadata = reader.metadata
    kind, method = metadata.get("general.type"), metadata.get("adapter.type")
    if kind != "adapter":
        raise UnsupportedError(f"{reader.path} is no adapter: general.type is {kind!r}; a model is given with -m")
    check_architecture(metadata)
    if method != "lora":
        raise UnsupportedError(f"{reader.path}: adapter.type is {method!r}; llamero knows 'lora'")
    if "adapter.alora.invocation_tokens" in metadata:
        raise UnsupportedError(f"{reader.path}: activated LoRA (adapter.alora.invocation_tokens) is not supported")


def _check_peft(reader: Reader) -> None:
    """Refuse every setting that would change what the tensors mean, known or not."""
    where, settings = f"{reader.path}/adapter_config.json", reader.metadata
    if settings.get("peft_type") != "LORA":
        raise UnsupportedError(f"{where}: peft_type is {settings.get('peft_type')!r}; llamero knows 'LORA'")
    for name, value in settings.items():
        if value and name not in _HARMLESS and name not in _READ:
            raise UnsupportedError(f"{where}: {name} is {value!r}, which llamero does not support")
    if not isinstance(settings.get("alpha_pattern") or {}, dict):
        raise UnsupportedError(f"{where}: alpha_pattern is {settings['alpha_pattern']!r}, not an object")
    if settings.get("bias", "none") != "none":
        raise UnsupportedError(f"{where}: bias is {settings['bias']!r}; Llamas with biases are not supported")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise UnsupportedError(
            f"{where}: init_lora_weights {start!r} changed the base model too; save the adapter again with PEFT's "
            "path_initial_model_for_weight_conversion, which makes it a plain one"
        )


def _pairs(reader: Reader, config: Config) -> dict[str, tuple[str, str]]:
    """The names in the file of a and b, for each matrix of ours that it changes."""
    hf = reader.layout == "hf"
    end_a, end_b = _ENDS[reader.layout]
    known: dict[str, str] = {}
    for ours in (*(name for name, shape in config.shapes().items() if len(shape) == 2), "output"):
        known[(_PEFT if hf else "") + file_name(ours, reader.layout).removesuffix(".weight")] = ours
    pairs: dict[str, tuple[str, str]] = {}
    for name in reader.tensors:
        if hf and _is_copy(reader, config, name):
            continue
        module = name.removesuffix(end_a).removesuffix(end_b)
        ours = known.get(module, "")
        if "embed" in name or "token_embd" in name:
            raise UnsupportedError(f"{reader.path}: tensor {name} changes the embedding, which is not supported")
        if module == name or not ours:
            raise WeightsError(f"{reader.path}: tensor {name} is no low-rank change of a matrix of this Llama")
        a, b = module + end_a, module + end_b
        if missing := {a, b} - reader.tensors.keys():
            raise WeightsError(f"{reader.path}: tensor {missing.pop()} is missing beside {name}")
        pairs[ours] = a, b
    return pairs


def _is_copy(reader: Reader, config: Config, name: str) -> bool:
    """Whether this is a copy of the base's own embedding or output, which PEFT saves with adapters of either."""
    if name.removeprefix(_PEFT) not in _COPIES:
        return False
    shape, wanted = reader.tensors[name].shape, (config.vocab, config.dim)
    if shape != wanted:
        raise WeightsError(f"{reader.path}: tensor {name} has shape {shape}; the model's own is {wanted}")
    return True


def _change(reader: Reader, config: Config, ours: str, name_a: str, name_b: str) -> LowRank[Matrix]:
    """One pair: shapes and values checked, rows in our order, the scale in b."""
    out, inputs = config.shapes()["embedding" if ours == "output" else ours]
    shape_a, shape_b = reader.tensors[name_a].shape, reader.tensors[name_b].shape
    rank = shape_a[0] if shape_a else 0
    for name, shape, wanted in ((name_a, shape_a, (rank, inputs)), (name_b, shape_b, (out, rank))):
        if shape != wanted or not rank:
            raise WeightsError(f"{reader.path}: tensor {name} has shape {shape}; this model asks for {wanted}")
    said = reader.metadata.get("r", rank)
    if reader.layout == "hf" and said != rank and not reader.metadata.get("rank_pattern"):
        raise WeightsError(f"{reader.path}: tensor {name_a} has rank {rank}, adapter_config.json says {said!r}")
    b = reader.read(name_b)
    heads = {"wq": config.heads, "wk": config.kv_heads}.get(ours.rpartition(".")[2])
    if reader.layout == "hf" and heads:
        b = reorder(b, heads, to_halves=False)
    scale = np.float32(_scale(reader, name_a, rank))
    change = LowRank(reader.read(name_a).decode(), np.ascontiguousarray(b.decode().T) * scale)
    for name, values in ((name_a, change.a), (name_b, change.b)):
        if not np.isfinite(values).all():
            raise WeightsError(f"{reader.path}: tensor {name} holds values that are not finite (NaN or inf)")
    return change


def _scale(reader: Reader, name: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) of a rank-stabilised adapter (Kalajdzievski 2023)."""
    settings = reader.metadata
    if reader.layout == "gguf":
        alpha = settings.get("adapter.lora.alpha", 0.0)
        _check_alpha(reader, alpha)
        return alpha / rank if alpha else 1.0  # llama.cpp takes none, and 0, for "unscaled"
    module = name.removeprefix(_PEFT).removesuffix(_ENDS["hf"][0])
    alpha = settings.get("lora_alpha", 8)
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        if _matches(reader, pattern, module):
            alpha = value
            break
    _check_alpha(reader, alpha)
    return float(alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _check_alpha(reader: Reader, alpha: object) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not abs(alpha) <= _MOST_ALPHA:
        raise WeightsError(f"{reader.path}: alpha must be a number up to {_MOST_ALPHA:g}, got {str(alpha)[:40]}")


def _matches(reader: Reader, pattern: str, module: str) -> bool:
    """Whether a key of alpha_pattern means this module: its name or the end of it, as PEFT reads plain names.

    PEFT takes any regular expression. One from a stranger's file is not run here.
    """
    if not _PLAIN_PATTERN.fullmatch(pattern):
        raise UnsupportedError(f"{reader.path}: the key {pattern!r} of alpha_pattern is no plain name of a module")
    if pattern.startswith("^"):
        return module == pattern[1:]
    return module == pattern or module.endswith(f".{pattern}")
