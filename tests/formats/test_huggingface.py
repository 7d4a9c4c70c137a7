"""Hugging Face folders: transformers loads ours, we load transformers', and bad folders are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llamero.errors import FormatError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.blocks import BF16, F32
from llamero.formats.huggingface import HuggingFace, write_hf
from llamero.formats.lazy import LazyTensor
from llamero.formats.tensor import Tensor, TensorInfo

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=96,
    )
    return transformers.LlamaForCausalLM(config)


def tensors_of(model: Any) -> list[Tensor]:
    return [
        Tensor(TensorInfo(name, F32, tuple(value.shape)), F32.encode(value.numpy()))
        for name, value in model.state_dict().items()
    ]


@pytest.mark.parametrize("shard_bytes", [5e9, 20_000])
def test_transformers_reads_what_we_write(tmp_path: Path, model: Any, shard_bytes: float) -> None:
    files = write_hf(tmp_path, model.config.to_dict(), tensors_of(model), shard_bytes)
    assert (len(files) > 1) == (shard_bytes < 5e9)
    loaded, report = transformers.LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    if len(files) > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.info.nbytes for t in tensors_of(model))
        assert set(index["weight_map"].values()) == {path.name for path in files}


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_we_read_what_transformers_writes(tmp_path: Path, model: Any, shard: str) -> None:
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    reader = HuggingFace.open(tmp_path)
    assert reader.layout == "hf"
    assert reader.path == tmp_path
    assert reader.metadata["num_key_value_heads"] == 2
    assert reader.metadata["generation_config"]["transformers_version"]
    assert reader.tensors.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(reader.read(name).decode(), value.numpy())
    reader.close()
    with pytest.raises(WeightsError, match="lm_head"):
        reader.read("lm_head.weight")


def lazy(name: str, *, columns: int = 8) -> LazyTensor:
    return LazyTensor(TensorInfo(name, BF16, (4, columns)), lambda: np.full(8 * columns, 7, np.uint8))


def test_round_trip_with_a_generation_config(tmp_path: Path) -> None:
    config = {"model_type": "llama", "größe": [1.5, None], "generation_config": {"eos_token_id": [1, 2]}}
    write_hf(tmp_path, config, [lazy("a"), lazy("b")])
    reader = HuggingFace.open(tmp_path)
    assert reader.metadata == config
    assert "generation_config" not in json.loads((tmp_path / "config.json").read_text())
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"eos_token_id": [1, 2]}
    assert {name: info.shape for name, info in reader.tensors.items()} == {"a": (4, 8), "b": (4, 8)}


def test_writing_again_leaves_nothing_of_before(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    write_hf(tmp_path, {}, [lazy(name) for name in names], shard_bytes=64)
    assert len(list(tmp_path.glob("model-*-of-00003.safetensors"))) == 3
    write_hf(tmp_path, {}, [lazy(name) for name in names], shard_bytes=128)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    write_hf(tmp_path, {}, [lazy("only")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    write_hf(tmp_path, {}, [lazy(name) for name in names], shard_bytes=128)
    assert list(HuggingFace.open(tmp_path).tensors) == names


def test_writing_refuses_twins_and_no_room(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'a'"):
        write_hf(tmp_path, {}, [lazy("a"), lazy("b"), lazy("a")], shard_bytes=64)
    with pytest.raises(SettingError, match="shard_bytes"):
        write_hf(tmp_path, {}, [lazy("a")], shard_bytes=0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_hf(tmp_path, {"model_type": "llama"}, [lazy("a"), lazy("b"), lazy("c")], shard_bytes=64)
    return tmp_path


def set_index(folder: Path, **places: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="model-00002-of-00003"):
        HuggingFace.open(sharded)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b", "a\0b"]
)
def test_the_index_cannot_lead_out_of_the_folder(sharded: Path, name: str) -> None:
    (sharded.parent / "secret.safetensors").write_bytes((sharded / "model-00001-of-00003.safetensors").read_bytes())
    set_index(sharded, a=name)
    with pytest.raises(FormatError, match="not the plain name of a file"):
        HuggingFace.open(sharded)


def test_an_index_that_does_not_fit_is_refused(sharded: Path) -> None:
    first, second = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
    set_index(sharded, a=second, b=first)
    with pytest.raises(FormatError, match="tensor 'a' is not in model-00002"):
        HuggingFace.open(sharded)
    for places in ({}, {"a": 1}):
        set_index(sharded, **places)
        with pytest.raises(FormatError, match="weight_map"):
            HuggingFace.open(sharded)
    set_index(sharded, a=first)
    assert list(HuggingFace.open(sharded).tensors) == ["a"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json is not there"):
        HuggingFace.open(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelNotFound, match=r"neither model\.safetensors nor"):
        HuggingFace.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(UnsupportedError, match="save_pretrained"):
        HuggingFace.open(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "null", "\udcff"])
def test_a_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(FormatError, match=r"config\.json"):
        HuggingFace.open(tmp_path)
