"""Blueprints: checked, and the same through every layout's own way of writing them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llamero.errors import ConfigError, UnsupportedError
from llamero.model.config import Config, RopeScaling
from llamero.model.config_files import (
    config_from_gguf,
    config_from_hf,
    config_from_meta,
    config_to_gguf,
    config_to_hf,
    config_to_meta,
)
from llamero.model.family import FAMILY, by_name

TINY = Config(dim=64, layers=2, heads=4, kv_heads=2, head_dim=20, ffn_dim=96, vocab=100, context=256)

# From the published models' own parameter counts.
PARAMETERS = {
    "llama-1-7b": 6_738_415_616,
    "llama-1-65b": 65_285_660_672,
    "llama-2-70b": 68_976_648_192,
    "codellama-34b": 33_743_970_304,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.3-70b": 70_553_706_496,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_family_has_the_published_sizes(name: str) -> None:
    assert by_name(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "multiplier", "multiple_of"),
    [
        ("llama-1-7b", None, 256),
        ("llama-1-13b", None, 256),
        ("llama-1-65b", None, 256),
        ("llama-2-70b", 1.3, 4096),
        ("llama-3-8b", 1.3, 1024),
        ("llama-3.1-405b", 1.2, 4096),
        ("llama-3.2-1b", 1.5, 256),
        ("llama-3.2-3b", 1.0, 256),
    ],
)
def test_ffn_width_follows_metas_rule(name: str, multiplier: float | None, multiple_of: int) -> None:
    """8/3 of the width, scaled, rounded up: how Meta's code derives what the table says plainly."""
    width = int(8 * by_name(name).dim / 3)
    width = int((multiplier or 1.0) * width)
    assert -(-width // multiple_of) * multiple_of == by_name(name).ffn_dim


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"llama-3\.1-8b"):
        by_name("llama3.1-8b")


def test_llama3_divisors() -> None:
    """The published divisors for heads of 128 with factor 8, and of 64 with factor 32."""
    for name, ones, between, last in [
        ("llama-3.1-8b", 29, [1.2075, 1.5534, 2.0263, 2.6945, 3.6843, 5.2573], 8),
        ("llama-3.2-3b", 29, [1.2349, 1.6513, 2.2767, 3.2923, 5.1716, 9.6667], 32),
        ("llama-3.2-1b", 15, [1.6513, 3.2923, 9.6667], 32),
    ]:
        config = by_name(name)
        divisors = replace(config, rope_scaling=None).inv_freq() / config.inv_freq()
        rest = len(divisors) - ones - len(between)
        np.testing.assert_allclose(divisors, [1] * ones + between + [last] * rest, atol=6e-5)


@pytest.mark.parametrize("config", [*FAMILY.values(), TINY, replace(TINY, rope_scaling=RopeScaling("llama3", 4.0))])
def test_every_layout_writes_what_it_reads(config: Config) -> None:
    assert config_from_hf(config_to_hf(config)) == config
    meta = config_from_meta(config_to_meta(config), vocab=config.vocab, ffn_dim=config.ffn_dim, tied=config.tied)
    assert meta == config
    gguf = config_from_gguf(config_to_gguf(config), vocab=config.vocab, tied=config.tied)
    assert gguf == replace(config, rope_scaling=None)  # Llama 3's scaling stands in a tensor


def test_linear_scaling_survives_gguf_and_hf() -> None:
    config = replace(TINY, rope_scaling=RopeScaling("linear", 2.0))
    assert config_from_gguf(config_to_gguf(config), vocab=100, tied=False) == config
    assert config_from_hf(config_to_hf(config)) == config
    np.testing.assert_allclose(config.inv_freq() * 2, TINY.inv_freq())


def test_published_config_json_is_read() -> None:
    """Llama 3.2 1B as published, and the same in transformers 5's words."""
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    }
    scaling = {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    }
    assert config_from_hf(values | {"rope_scaling": scaling, "rope_theta": 500000.0}) == by_name("llama-3.2-1b")
    assert config_from_hf(values | {"rope_parameters": scaling | {"rope_theta": 500000.0}}) == by_name("llama-3.2-1b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "mistral"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 3}, "heads"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"vocab_size": -1}, "vocab"),
        ({"head_dim": 21}, "head_dim"),
        ({"rms_norm_eps": 0.0}, "norm_eps"),
        ({"num_hidden_layers": 10**12}, "layers"),
    ],
)
def test_bad_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnsupportedError), match=message):
        config_from_hf(config_to_hf(TINY) | change)


def test_missing_key_is_named() -> None:
    values = config_to_hf(TINY)
    del values["intermediate_size"]
    with pytest.raises(ConfigError, match="intermediate_size"):
        config_from_hf(values)


def test_other_gguf_architectures_are_named() -> None:
    with pytest.raises(UnsupportedError, match="qwen2"):
        config_from_gguf({"general.architecture": "qwen2"}, vocab=10, tied=False)
