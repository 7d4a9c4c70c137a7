"""Adapters against PEFT's own arithmetic, from its folders and from GGUF, alone and mixed; files that are refused."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from llamero.errors import FormatError, LlameroError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.adapter import open_adapter_file
from llamero.formats.blocks import F16, F32
from llamero.formats.open import open_model_file
from llamero.model.adapter import Adapter, Matrix, adaptable, mix, place
from llamero.model.adapter_files import read_adapter
from llamero.model.config import Config
from llamero.model.config_files import config_to_hf
from llamero.model.llama import forward
from llamero.model.weights import Weights, load
from llamero.ops.adapted_ops import AdaptedOps
from llamero.ops.native_ops import NativeOps
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Ops, Span
from llamero.ops.torch_ops import TorchOps

pytestmark = [  # peft and transformers of different years warn of each other
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

CONFIG = Config(dim=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn_dim=96, vocab=199, context=512)
OPS: dict[str, Callable[[], Ops[Any, Any]]] = {"numpy": NumpyOps, "native": NativeOps, "torch": TorchOps}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Base: TypeAlias = tuple[Path, transformers.LlamaForCausalLM]
IDS = [1, 50, 120, 7, 7, 198, 33]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A random model, saved by transformers itself."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    values = {k: v for k, v in config_to_hf(CONFIG).items() if k not in ("architectures", "model_type")}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values, initializer_range=0.2)).eval()
    model.save_pretrained(folder)
    return folder, model


def trained(folder: Path, base: Base, seed: int, **settings: Any) -> NDArray[np.float32]:
    """An adapter as PEFT saves it, with random values -> the logits of PEFT's own model."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": ALL} | settings
    adapted = peft.get_peft_model(copy.deepcopy(base[1]), peft.LoraConfig(**settings))
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder)
    adapted.eval()
    with torch.no_grad():
        whole: NDArray[np.float32] = adapted(torch.tensor([IDS])).logits[0].numpy()
    return whole


def loaded(path: Path, config: Config = CONFIG) -> Adapter[Matrix]:
    return read_adapter(open_adapter_file(path), config)


def logits(ops: Ops[Any, Any], weights: Weights[Any], *adapters: Adapter[Any] | None) -> list[NDArray[np.float32]]:
    """Logits of IDS under each adapter (None is the base), all in one step."""
    groups = [
        (adapter.changes, range(i * len(IDS), (i + 1) * len(IDS)))
        for i, adapter in enumerate(adapters)
        if adapter is not None
    ]
    spans = [Span(0, len(IDS))] * len(adapters)
    x = forward(AdaptedOps(ops, groups), adaptable(weights), None, IDS * len(adapters), spans)
    return np.split(np.array(ops.numpy(x)), len(adapters))


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float = 2e-5) -> None:
    assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max()


SETTINGS: dict[str, dict[str, Any]] = {
    "all": {},
    "queries": {"target_modules": ["q_proj", "k_proj"]},
    "rslora": {"use_rslora": True, "r": 8},
    "one-layer": {"layers_to_transform": [1]},
    "patterns": {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3, "down_proj": 40}},
    "head": {"target_modules": ["lm_head", "v_proj"]},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_same_as_peft(base: Base, settings: dict[str, Any], tmp_path: Path) -> None:
    wanted = trained(tmp_path / "adapter", base, 1, **settings)
    for ops in (NumpyOps(), NativeOps()):
        weights = load(open_model_file(base[0]), ops)
        plain = np.array(ops.numpy(forward(ops, weights, None, IDS, [Span(0, len(IDS))])))
        (found,) = logits(ops, weights, place(loaded(tmp_path / "adapter"), ops, F32))
        assert_close(found, wanted)
        assert np.abs(plain - wanted).max() > 0.1  # it does change something


@pytest.mark.parametrize("make", OPS.values(), ids=OPS)
def test_several_and_none_in_one_step(base: Base, make: Callable[[], Ops[Any, Any]], tmp_path: Path) -> None:
    wanted = [trained(tmp_path / f"{seed}", base, seed, r=rank) for seed, rank in ((1, 4), (2, 16))]
    ops = make()
    weights = load(open_model_file(base[0]), ops)
    one, two = (place(loaded(tmp_path / f"{seed}"), ops, F32) for seed in (1, 2))
    plain = np.array(ops.numpy(forward(ops, weights, None, IDS, [Span(0, len(IDS))])))
    for found, right in zip(logits(ops, weights, two, None, one), (wanted[1], plain, wanted[0]), strict=True):
        assert_close(found, right)


def test_rows_keep_their_bits_whoever_is_in_the_step(base: Base, tmp_path: Path) -> None:
    for seed in (1, 2):
        trained(tmp_path / f"{seed}", base, seed)
    ops = NativeOps(deterministic=True)
    weights = load(open_model_file(base[0]), ops)
    one, two = (place(loaded(tmp_path / f"{seed}"), ops, F32) for seed in (1, 2))
    alone = [logits(ops, weights, each)[0] for each in (two, None, one)]
    assert np.array_equal(logits(ops, weights, two, None, one), alone)


def test_a_mixture_is_the_sum_of_scaled_changes(base: Base, tmp_path: Path) -> None:
    """Held against matrices that were changed themselves."""
    for seed in (1, 2):
        trained(tmp_path / f"{seed}", base, seed, r=3 * seed)
    ops = NumpyOps()
    weights = load(open_model_file(base[0]), ops)
    one, two = loaded(tmp_path / "1"), loaded(tmp_path / "2")
    merged = weights
    for adapter, factor in ((one, 0.5), (two, -0.25)):
        layers = list(merged.layers)
        for name, change in adapter.changes.items():
            _, index, part = name.split(".")
            layer = layers[int(index)]
            layers[int(index)] = replace(layer, **{part: getattr(layer, part) + factor * change.b.T @ change.a})
        merged = replace(merged, layers=tuple(layers))
    wanted = forward(ops, merged, None, IDS, [Span(0, len(IDS))])
    assert_close(logits(ops, weights, mix([(one, 0.5), (two, -0.25)]))[0], wanted)
    with pytest.raises(SettingError, match="scale"):
        mix([(one, float("nan"))])


def to_gguf(source: Path, path: Path, kind: Any = None, **metadata: Any) -> None:
    """The adapter of a PEFT folder as gguf's own writer stores it, its Q and K rows as pairs."""
    settings = json.loads((source / "adapter_config.json").read_text())
    writer = gguf.GGUFWriter(path, metadata.get("arch", "llama"))
    writer.add_type(metadata.get("type", gguf.GGUFType.ADAPTER))
    writer.add_string(gguf.Keys.Adapter.TYPE, metadata.get("method", "lora"))
    if (alpha := metadata.get("alpha", settings["lora_alpha"])) is not None:
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, CONFIG.layers)
    for name, tensor in load_file(source / "adapter_model.safetensors").items():
        module, _, end = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        values = tensor.numpy()
        heads = {"q_proj": CONFIG.heads, "k_proj": CONFIG.kv_heads}.get(module.rpartition(".")[2])
        if end == "B" and heads:
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(f"{names.get_name(module)}.weight.lora_{end.lower()}", values.astype(kind or np.float32))
    for name in metadata.get("extra", ()):
        writer.add_tensor(name, np.zeros((4, CONFIG.dim), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_says_the_same(base: Base, tmp_path: Path) -> None:
    wanted = trained(tmp_path / "adapter", base, 1)
    to_gguf(tmp_path / "adapter", tmp_path / "f32.gguf")
    to_gguf(tmp_path / "adapter", tmp_path / "f16.gguf", np.float16)
    ops = NativeOps()
    weights = load(open_model_file(base[0]), ops)
    folder, file = loaded(tmp_path / "adapter"), loaded(tmp_path / "f32.gguf")
    assert folder.changes.keys() == file.changes.keys()
    for name, change in folder.changes.items():
        np.testing.assert_allclose(change.b, file.changes[name].b, rtol=1e-6)
    assert_close(logits(ops, weights, place(file, ops, F32))[0], wanted)
    assert_close(logits(ops, weights, place(loaded(tmp_path / "f16.gguf"), ops, F16))[0], wanted, 3e-3)


@pytest.fixture(scope="module")
def saved(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    trained(folder / "adapter", base, 1, target_modules=["q_proj", "v_proj"])
    return folder


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
    ({"use_dora": True}, "use_dora"),
    ({"bias": "all"}, "bias"),
    ({"lora_bias": True}, "lora_bias"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4.*path_initial_model"),
    ({"from_next_year": True}, "from_next_year"),
    ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern"),
    ({"alpha_pattern": ["q_proj"]}, "alpha_pattern"),
    ({"alpha_pattern": {"q_proj": [1]}}, "alpha must be"),
    ({"lora_alpha": "16"}, "alpha must be"),
    ({"lora_alpha": 10**400}, "alpha must be"),
    ({"lora_alpha": float("inf")}, "alpha must be"),
    ({"r": 5}, "rank 4"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SETTINGS)
def test_settings_that_mean_something_else(change: dict[str, Any], message: str, saved: Path, tmp_path: Path) -> None:
    settings = json.loads((saved / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | change))
    (tmp_path / "adapter_model.safetensors").write_bytes((saved / "adapter/adapter_model.safetensors").read_bytes())
    with pytest.raises((UnsupportedError, WeightsError), match=message):
        loaded(tmp_path)


Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
BAD_TENSORS: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "half a pair": ({f"{Q}B.weight": None}, "q_proj.lora_B.weight is missing"),
    "another width": ({f"{Q}A.weight": torch.zeros(4, 65)}, r"lora_A.weight has shape \(4, 65\).*\(4, 64\)"),
    "another height": ({f"{Q}B.weight": torch.zeros(63, 4)}, r"lora_B.weight has shape \(63, 4\)"),
    "ranks that differ": ({f"{Q}B.weight": torch.zeros(64, 5)}, r"lora_B.weight has shape \(64, 5\)"),
    "no rank": ({f"{Q}A.weight": torch.zeros(0, 64), f"{Q}B.weight": torch.zeros(64, 0)}, "shape"),
    "a vector": ({f"{Q}A.weight": torch.zeros(64)}, "shape"),
    "not a number": ({f"{Q}A.weight": torch.full((4, 64), torch.nan)}, "lora_A.weight holds values"),
    "a stranger": ({"base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight": torch.zeros(4, 64)}, "layers.2"),
    "a magnitude": ({f"{Q}magnitude_vector": torch.zeros(64)}, "magnitude_vector"),
    "a trained embedding": ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 199)}, "embed"),
    "a grown embedding": ({"base_model.model.model.embed_tokens.weight": torch.zeros(200, 64)}, r"\(200, 64\)"),
}


@pytest.mark.parametrize(("change", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_tensors_of_something_else(
    change: dict[str, torch.Tensor | None], message: str, saved: Path, tmp_path: Path
) -> None:
    tensors = load_file(saved / "adapter" / "adapter_model.safetensors") | change
    (tmp_path / "adapter_config.json").write_text((saved / "adapter" / "adapter_config.json").read_text())
    save_file(
        {name: each for name, each in tensors.items() if each is not None}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises((WeightsError, UnsupportedError), match=message):
        loaded(tmp_path)


def test_gguf_of_something_else(saved: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"type": "model"}, "no adapter"),
        ({"arch": "qwen2"}, "qwen2"),
        ({"method": "ia3"}, "ia3"),
        ({"extra": ["blk.0.attn_norm.weight"]}, "attn_norm"),
        ({"extra": ["token_embd.weight.lora_a"]}, "token_embd"),
        ({"extra": ["blk.1.ffn_up.weight.lora_a"]}, "ffn_up.weight.lora_b is missing"),
    ]
    for number, (metadata, message) in enumerate(cases):
        to_gguf(saved / "adapter", tmp_path / f"{number}.gguf", **metadata)
        with pytest.raises((WeightsError, UnsupportedError), match=message):
            loaded(tmp_path / f"{number}.gguf")


def test_without_alpha_a_gguf_is_not_scaled(saved: Path, tmp_path: Path) -> None:
    for alpha in (None, 4):
        to_gguf(saved / "adapter", tmp_path / f"{alpha}.gguf", alpha=alpha)
    plain, four = loaded(tmp_path / "None.gguf"), loaded(tmp_path / "4.gguf")  # rank 4: a scale of 1
    assert all(np.array_equal(plain.changes[name].b, four.changes[name].b) for name in plain.changes)


def test_files_that_are_no_adapters(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="not there"):
        open_adapter_file(tmp_path / "nothing")
    with pytest.raises(ModelNotFound, match=r"adapter_config\.json"):
        open_adapter_file(base[0])
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="adapter_model"):
        open_adapter_file(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"PK")
    with pytest.raises(UnsupportedError, match="save_pretrained"):
        open_adapter_file(tmp_path)
    with pytest.raises(FormatError, match="no adapter"):
        open_adapter_file(tmp_path / "adapter_model.bin")


def test_bytes_that_are_cut_or_turned_never_crash(saved: Path, tmp_path: Path) -> None:
    to_gguf(saved / "adapter", tmp_path / "whole.gguf")
    rng = np.random.default_rng(0)
    whole = (tmp_path / "whole.gguf").read_bytes()
    for number in range(60):
        data = bytearray(whole[: rng.integers(8, len(whole))] if number % 2 else whole)
        for place_ in rng.integers(0, min(len(data), 1200), 3):
            data[place_] = rng.integers(256)
        (tmp_path / "bad.gguf").write_bytes(data)
        with contextlib.suppress(LlameroError):
            loaded(tmp_path / "bad.gguf")
