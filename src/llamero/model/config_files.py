"""The blueprint as each file layout writes it: GGUF metadata, Hugging Face config.json, Meta params.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llamero.errors import ConfigError, UnsupportedError, nearest
from llamero.model.config import Config, RopeScaling


class _Keys:
    """A file's settings, read strictly: a missing or mistyped key is an error that names it."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        value = self.values.get(key, default)
        if value is None:
            near = nearest(key, self.values) if self.values else "the file has no settings"
            raise ConfigError(f"{self.where} lacks {key!r} ({near})")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind is int and isinstance(value, np.integer):
            value = int(value)
        if kind is float and isinstance(value, np.floating):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{self.where}: {key} must be {kind.__name__}, got {value!r}")
        return value


def check_architecture(metadata: Mapping[str, Any]) -> None:
    """Raise UnsupportedError, naming it, for a GGUF of another architecture than a dense Llama's."""
    arch = metadata.get("general.architecture")
    if arch != "llama":
        raise UnsupportedError(f"GGUF architecture {arch!r} is not one that llamero runs; it runs 'llama'")
    if metadata.get("llama.expert_count"):
        raise UnsupportedError("this GGUF holds a mixture of experts (llama.expert_count), which llamero does not run")


def config_from_gguf(metadata: Mapping[str, Any], *, vocab: int, tied: bool) -> Config:
    """Read the blueprint from GGUF metadata; `vocab` and `tied` are told by the tensors themselves.

    Raises UnsupportedError for another architecture or RoPE scaling, ConfigError for a missing or absurd key.
    """
    check_architecture(metadata)
    keys = _Keys(metadata, "GGUF metadata")
    dim, heads = keys.get("llama.embedding_length", int), keys.get("llama.attention.head_count", int)
    kv_heads = keys.get("llama.attention.head_count_kv", int, heads)
    if heads < 1:
        raise ConfigError(f"llama.attention.head_count must be at least 1, got {heads}")
    head_dim = keys.get("llama.attention.key_length", int, metadata.get("llama.rope.dimension_count", dim // heads))
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if metadata.get(key, head_dim) != head_dim:
            raise UnsupportedError(f"{key} is {metadata[key]}, but heads are {head_dim} wide; llamero needs them equal")
    scaling = None
    kind = metadata.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        scaling = RopeScaling("linear", keys.get("llama.rope.scaling.factor", float))
    elif kind not in ("none", "llama3"):  # Llama 3's own scaling stands in the tensor rope_freqs.weight
        raise UnsupportedError(f"RoPE scaling {kind!r} (llama.rope.scaling.type) is not one that llamero runs")
    return Config(
        dim=dim,
        layers=keys.get("llama.block_count", int),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_dim=keys.get("llama.feed_forward_length", int),
        vocab=vocab,
        context=keys.get("llama.context_length", int),
        norm_eps=_plain(keys.get("llama.attention.layer_norm_rms_epsilon", float)),
        rope_theta=_plain(keys.get("llama.rope.freq_base", float, 10000.0)),
        rope_scaling=scaling,
        tied=tied,
    )


def _plain(value: float) -> float:
    """The number that was meant by one kept as float32: 1e-5, not 9.99999974e-06."""
    return float(str(np.float32(value)))


def config_to_gguf(config: Config) -> dict[str, Any]:
    """The blueprint as GGUF metadata (Llama 3 scaling goes into `rope_freqs.weight`, see model/weights.py)."""
    scaling: dict[str, Any] = {}
    if config.rope_scaling and config.rope_scaling.kind == "linear":
        scaling = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float(config.rope_scaling.factor)}
    return {
        "general.architecture": "llama",
        "llama.block_count": config.layers,
        "llama.context_length": config.context,
        "llama.embedding_length": config.dim,
        "llama.feed_forward_length": config.ffn_dim,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.norm_eps,
        "llama.rope.dimension_count": config.head_dim,
        "llama.rope.freq_base": config.rope_theta,
        "llama.vocab_size": config.vocab,
    } | scaling


def config_from_hf(values: Mapping[str, Any]) -> Config:
    """Read the blueprint from a Hugging Face config.json.

    Raises UnsupportedError for another model type, activation, bias or RoPE scaling, ConfigError for a bad key.
    """
    kind = values.get("model_type")
    if kind != "llama":
        raise UnsupportedError(f"config.json says model_type {kind!r}; llamero runs 'llama'")
    for key, wanted in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False)):
        if values.get(key, wanted) != wanted:
            raise UnsupportedError(f"config.json: {key} is {values[key]!r}; a Llama has {wanted!r}")
    if values.get("quantization_config"):
        raise UnsupportedError("config.json: quantization_config is not supported; use the original weights or a GGUF")
    keys = _Keys(values, "config.json")
    dim, heads = keys.get("hidden_size", int), keys.get("num_attention_heads", int)
    if heads < 1:
        raise ConfigError(f"config.json: num_attention_heads must be at least 1, got {heads}")
    rope = dict(values.get("rope_parameters") or {})  # transformers 5; older files have the two keys below
    theta = rope.get("rope_theta", values.get("rope_theta", 10000.0))
    return Config(
        dim=dim,
        layers=keys.get("num_hidden_layers", int),
        heads=heads,
        kv_heads=keys.get("num_key_value_heads", int, heads),
        head_dim=keys.get("head_dim", int, dim // heads),
        ffn_dim=keys.get("intermediate_size", int),
        vocab=keys.get("vocab_size", int),
        context=keys.get("max_position_embeddings", int, 2048),
        norm_eps=keys.get("rms_norm_eps", float, 1e-6),
        rope_theta=float(theta),
        rope_scaling=_hf_scaling(rope or values.get("rope_scaling") or {}),
        tied=keys.get("tie_word_embeddings", bool, False),
    )


def _hf_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    keys = _Keys(rope, "config.json: rope_scaling")
    if kind == "linear":
        return RopeScaling("linear", keys.get("factor", float))
    if kind != "llama3":
        raise UnsupportedError(f"config.json: RoPE scaling {kind!r} is not one that llamero runs (llama3, linear)")
    return RopeScaling(
        "llama3",
        keys.get("factor", float),
        keys.get("low_freq_factor", float),
        keys.get("high_freq_factor", float),
        keys.get("original_max_position_embeddings", int),
    )


def config_to_hf(config: Config) -> dict[str, Any]:
    """The blueprint as a Hugging Face config.json."""
    scaling = config.rope_scaling
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    if scaling:
        values["rope_scaling"] = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            values["rope_scaling"] |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
    return values


def config_from_meta(values: Mapping[str, Any], *, vocab: int, ffn_dim: int, tied: bool) -> Config:
    """Read the blueprint from Meta's params.json; what it leaves out (or gives as -1) the tensors tell.

    Meta's reference code fixes the scaling factor at 8; `rope_scaling_factor` may say another (32 for Llama 3.2).
    Raises ConfigError for a missing or absurd key.
    """
    keys = _Keys(values, "params.json")
    if values.get("moe_args") or values.get("vision_chunk_size"):
        raise UnsupportedError("params.json describes experts or a vision model, which llamero does not run")
    dim, heads = keys.get("dim", int), keys.get("n_heads", int)
    if heads < 1:
        raise ConfigError(f"params.json: n_heads must be at least 1, got {heads}")
    scaling = None
    if values.get("use_scaled_rope"):
        scaling = RopeScaling("llama3", float(values.get("rope_scaling_factor") or 8.0))
    theta = keys.get("rope_theta", float, 10000.0)
    return Config(
        dim=dim,
        layers=keys.get("n_layers", int),
        heads=heads,
        kv_heads=values.get("n_kv_heads") or heads,
        head_dim=values.get("head_dim") or dim // heads,
        ffn_dim=ffn_dim,
        vocab=vocab,
        context=values.get("max_seq_len") or _meta_context(theta, scaling is not None),
        norm_eps=keys.get("norm_eps", float),
        rope_theta=theta,
        rope_scaling=scaling,
        tied=tied,
    )


def _meta_context(theta: float, scaled: bool) -> int:
    """params.json does not say the context; the rotation settings tell the generation (llama 2, code, 3, 3.1)."""
    if scaled:
        return 131072
    return {5e5: 8192, 1e6: 16384}.get(theta, 4096)


def config_to_meta(config: Config) -> dict[str, Any]:
    """The blueprint as Meta's params.json, with `ffn_dim` and `head_dim` said plainly where Meta would derive them."""
    values: dict[str, Any] = {
        "dim": config.dim,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "ffn_dim": config.ffn_dim,
        "vocab_size": config.vocab,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "max_seq_len": config.context,
    }
    scaling = config.rope_scaling
    if scaling:
        if scaling.kind != "llama3":
            raise ConfigError("params.json cannot express linear RoPE scaling")
        values |= {"use_scaled_rope": True, "rope_scaling_factor": scaling.factor}
    return values
