"""Meta's folders: shards cut and joined as Meta's own code does, and incomplete folders named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from llamero.errors import FormatError, ModelNotFound, SettingError, WeightsError
from llamero.formats.blocks import BF16
from llamero.formats.meta import Meta, write_meta
from llamero.formats.tensor import Tensor, TensorInfo

PARAMS = {"dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 24, "norm_eps": 1e-5}
SHAPES = {"tok_embeddings.weight": (24, 16), "norm.weight": (16,), "output.weight": (24, 16)}
for layer in range(2):
    SHAPES |= {
        f"layers.{layer}.attention.{name}.weight": (rows, 16)
        for name, rows in zip(("wq", "wk", "wv", "wo"), (16, 8, 8, 16), strict=True)
    }
    SHAPES |= {
        f"layers.{layer}.feed_forward.{name}.weight": shape
        for name, shape in zip(("w1", "w2", "w3"), ((32, 16), (16, 32), (32, 16)), strict=True)
    }
    SHAPES |= {f"layers.{layer}.{name}.weight": (16,) for name in ("attention_norm", "ffn_norm")}


@pytest.fixture(scope="module")
def tensors() -> list[Tensor]:
    rng = np.random.default_rng(9)
    return [
        Tensor(TensorInfo(name, BF16, shape), BF16.encode(rng.standard_normal(shape))) for name, shape in SHAPES.items()
    ]


def check(folder: Path, tensors: list[Tensor]) -> None:
    reader = Meta.open(folder)
    assert reader.layout == "meta"
    assert reader.metadata["dim"] == 16
    assert reader.tensors == {t.info.name: t.info for t in tensors}
    for t in tensors:
        np.testing.assert_array_equal(reader.read(t.info.name).data, t.data)
    reader.close()
    with pytest.raises(WeightsError, match=r"norm\.weight"):
        reader.read("norm.weight")


@pytest.mark.parametrize("embedding_cut", [0, 1])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_round_trip(tmp_path: Path, tensors: list[Tensor], shards: int, embedding_cut: int) -> None:
    paths = write_meta(tmp_path, PARAMS, tensors, shards, embedding_cut)  # type: ignore[arg-type]
    assert [path.name for path in paths] == [f"consolidated.{number:02}.pth" for number in range(shards)]
    check(tmp_path, tensors)


def cut(name: str, whole: torch.Tensor, number: int) -> torch.Tensor:
    """Meta's cut, by the kind of parallel layer that its model.py makes of each."""
    if whole.dim() == 1:
        return whole
    columns_parallel = name.split(".")[-2] in ("wq", "wk", "wv", "w1", "w3", "output")
    return whole.chunk(2, dim=0 if columns_parallel else 1)[number]


def test_shards_saved_by_torch_as_llama_2_did(tmp_path: Path, tensors: list[Tensor]) -> None:
    whole = {t.info.name: torch.from_numpy(t.decode()).bfloat16() for t in tensors}
    for number in range(2):
        part = {name: cut(name, value, number).clone() for name, value in whole.items()}
        part["rope.freqs"] = torch.ones(2)
        torch.save(part, tmp_path / f"consolidated.{number:02}.pth")
    (tmp_path / "params.json").write_text(json.dumps({**PARAMS, "vocab_size": -1}))
    check(tmp_path, tensors)


def test_torch_reads_each_shard_we_write(tmp_path: Path, tensors: list[Tensor]) -> None:
    paths = write_meta(tmp_path, PARAMS, tensors, 2, 1)
    for number, path in enumerate(paths):
        for name, value in torch.load(path, weights_only=True).items():
            whole = next(t for t in tensors if t.info.name == name)
            assert torch.equal(value, cut(name, torch.from_numpy(whole.decode()).bfloat16(), number)), name


def test_a_single_shard_is_not_copied(tmp_path: Path, tensors: list[Tensor]) -> None:
    write_meta(tmp_path, PARAMS, tensors)
    assert not Meta.open(tmp_path).read("output.weight").data.flags.owndata


def test_missing_shards_are_named(tmp_path: Path, tensors: list[Tensor]) -> None:
    write_meta(tmp_path, PARAMS, tensors, 4)
    (tmp_path / "consolidated.01.pth").unlink()
    with pytest.raises(ModelNotFound, match=r"consolidated\.01\.pth is missing"):
        Meta.open(tmp_path)
    for number in (2, 3):
        (tmp_path / f"consolidated.{number:02}.pth").unlink()
    with pytest.raises(ModelNotFound, match="has 1 shards of 4"):
        Meta.open(tmp_path)
    write_meta(tmp_path, PARAMS, tensors, 4, 1)
    (tmp_path / "consolidated.03.pth").unlink()
    (tmp_path / "consolidated.02.pth").unlink()
    with pytest.raises(ModelNotFound, match="has 2 shards of 4"):
        Meta.open(tmp_path)
    write_meta(tmp_path, PARAMS, tensors, 1)
    check(tmp_path, tensors)


def test_shards_that_do_not_match_are_refused(tmp_path: Path, tensors: list[Tensor]) -> None:
    write_meta(tmp_path / "a", PARAMS, tensors, 2)
    write_meta(tmp_path / "b", PARAMS, tensors[:-1], 2)
    write_meta(tmp_path / "c", PARAMS, tensors, 4)
    for other, text in (("b", "not in both"), ("c", "in the first shard it is")):
        (tmp_path / "a" / "consolidated.01.pth").write_bytes((tmp_path / other / "consolidated.01.pth").read_bytes())
        with pytest.raises(FormatError, match=text):
            Meta.open(tmp_path / "a")


@pytest.mark.parametrize("dim", [None, 0, -16, "16", True])
def test_params_without_a_width_are_refused(tmp_path: Path, tensors: list[Tensor], dim: object) -> None:
    write_meta(tmp_path, {**PARAMS, "dim": dim}, tensors)
    with pytest.raises(FormatError, match=r"params\.json: dim must be"):
        Meta.open(tmp_path)


@pytest.mark.parametrize("shape", [(16,), (0, 16), (2, 2, 2)])
def test_an_odd_embedding_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    odd = Tensor(TensorInfo("tok_embeddings.weight", BF16, shape), BF16.encode(np.zeros(shape)))
    write_meta(tmp_path, PARAMS, [odd])
    with pytest.raises(FormatError, match="must be a matrix"):
        Meta.open(tmp_path)


def test_writing_refuses_uneven_cuts(tmp_path: Path, tensors: list[Tensor]) -> None:
    with pytest.raises(SettingError, match=r"cannot be cut into 3"):
        write_meta(tmp_path, PARAMS, tensors, 3)
    with pytest.raises(SettingError, match="at least 1"):
        write_meta(tmp_path, PARAMS, tensors, 0)
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"params\.json is not there"):
        Meta.open(tmp_path)
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"no consolidated\.00\.pth"):
        Meta.open(tmp_path)
