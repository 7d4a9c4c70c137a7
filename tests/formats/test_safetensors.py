"""Safetensors against the `safetensors` package, both ways, and what the reader refuses."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from llamero.errors import FormatError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.blocks import BF16, F32, I8, Q8_0, TYPES
from llamero.formats.safetensors import DTYPES, Safetensors, write_safetensors
from llamero.formats.tensor import Tensor, TensorInfo

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
TORCH |= {"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64}


def tensor(name: str, kind: str, *shape: int) -> Tensor:
    values = np.rint(np.random.default_rng(len(name)).standard_normal(shape) * 9)
    return Tensor(TensorInfo(name, TYPES[kind], shape), TYPES[kind].encode(values))


def written(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_the_peer_reads_what_we_write(tmp_path: Path) -> None:
    tensors = [tensor(f"t.{kind}", kind, 3, 5) for kind in DTYPES] + [tensor("empty", "F32", 0, 4), tensor("x", "I8")]
    write_safetensors(tmp_path / "m.safetensors", tensors)
    read = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert read.keys() == {t.info.name for t in tensors}
    for t in tensors:
        peer = read[t.info.name]
        assert tuple(peer.shape) == t.info.shape
        assert peer.dtype == TORCH[t.info.type.name]
        np.testing.assert_array_equal(peer.to(torch.float32).numpy(), t.decode())
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_we_read_what_the_peer_writes(tmp_path: Path) -> None:
    tensors = {name: (torch.randn(4, 6) * 20).to(dtype) for name, dtype in TORCH.items()}
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors", metadata={"who": "a peer"})
    reader = Safetensors.open(tmp_path / "m.safetensors")
    assert reader.layout == "hf"
    assert reader.metadata == {"who": "a peer"}
    assert reader.tensors.keys() == tensors.keys()
    for name, peer in tensors.items():
        assert reader.tensors[name] == TensorInfo(name, TYPES[name], (4, 6))
        np.testing.assert_array_equal(reader.read(name).decode(), peer.to(torch.float32).numpy())


def test_tensors_are_aligned_views_of_the_file(tmp_path: Path) -> None:
    odd = [tensor("odd", "I8", 3), tensor("b", "BF16", 3, 3), tensor("wide", "F64", 5)]
    write_safetensors(tmp_path / "m.safetensors", odd)
    reader = Safetensors.open(tmp_path / "m.safetensors")
    for name, info in reader.tensors.items():
        data = reader.read(name).data
        assert not data.flags.owndata
        assert data.ctypes.data % info.type.size == 0
    kept = reader.read("wide")
    before = kept.decode()
    reader.close()
    np.testing.assert_array_equal(kept.decode(), before)
    with pytest.raises(WeightsError, match="'wide'"):
        reader.read("wide")


def test_reading_from_inside_a_buffer() -> None:
    raw = safetensors.numpy.save({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    reader = Safetensors.from_buffer(b"???" + raw + b"!", 3, len(raw))
    np.testing.assert_array_equal(reader.read("a").decode(), [[0, 1, 2], [3, 4, 5]])


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    quantised = Tensor(TensorInfo("q", Q8_0, (32,)), Q8_0.encode(np.zeros(32)))
    with pytest.raises(SettingError, match="'q': safetensors has no type Q8_0"):
        write_safetensors(path, [quantised])
    twins = [tensor("a", "F32", 2), tensor("a", "F32", 2)]
    with pytest.raises(SettingError, match="'a'"):
        write_safetensors(path, twins)
    with pytest.raises(SettingError, match="__metadata__"):
        write_safetensors(path, [tensor("__metadata__", "F32", 2)])
    with pytest.raises(WeightsError, match="takes 8 bytes, got 4"):
        write_safetensors(path, [Tensor(TensorInfo("a", F32, (2,)), np.zeros(4, np.uint8))])
    assert list(tmp_path.iterdir()) == []


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "empty|0 bytes"),
        (b"1234567", "7 bytes are too few"),
        (struct.pack("<Q", 2**60) + b"{}", "header of 1152921504606846976 bytes"),
        (struct.pack("<Q", 3) + b"{}", "header of 3 bytes"),
        (written(b"[]"), "expected a JSON object, found a list"),
        (written(b'{"a'), "not valid JSON"),
        (written(b'{"a\xff": 1}'), "not valid JSON"),
        (written(b'{"a": 1, "a": 1}'), "'a' is there twice"),
        (written(b'{"\\ud800": 1}'), "not valid JSON"),
        (written(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "nested too deeply"),
        (written({"a": 1}), "must have dtype, shape and data_offsets"),
        (written({"a": {**entry(), "more": 1}}, bytes(8)), "nothing else"),
        (written({"__metadata__": {"a": 1}}), "strings to strings"),
        (written({"a": entry(shape="2")}, bytes(8)), "shape must be a list"),
        (written({"a": entry(shape=[-2])}, bytes(8)), "shape must be a list"),
        (written({"a": entry(shape=[True, 2])}, bytes(8)), "shape must be a list"),
        (written({"a": entry(shape=[2.0])}, bytes(8)), "shape must be a list"),
        (written({"a": entry(shape=[1] * 9)}, bytes(8)), "at most 8"),
        (written({"a": entry(shape=[2**62] * 8)}, bytes(8)), "takes .* bytes, data_offsets say"),
        (written({"a": entry(shape=[10**30])}, bytes(8)), "shape must be a list"),
        (written({"a": entry(offsets=[0])}, bytes(8)), "two byte counts"),
        (written({"a": entry(offsets=[8, 0])}, bytes(8)), "data_offsets say"),
        (written({"a": entry(shape=[3])}, bytes(8)), "takes 12 bytes"),
        (written({"a": entry(offsets=[4, 12])}, bytes(12)), "leaves a hole before it"),
        (written({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "'b' .* overlaps"),
        (written({"a": entry()}, bytes(7)), "cut short"),
        (written({"a": entry()}, bytes(9)), "belong to no tensor"),
        (written({"n" * 2000: entry()}, bytes(8)), "2000 characters"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, raw: bytes, text: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=f"(?s)bad.safetensors.*({text})"):
        Safetensors.open(path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "U8", "BOOL", "F4", "C64", None, 3, ["F32"]])
def test_an_unsupported_dtype_is_named(dtype: object) -> None:
    raw = written({"layer.weight": entry(dtype=dtype)}, bytes(8))
    with pytest.raises(FormatError, match=r"layer\.weight") as caught:
        Safetensors.from_buffer(raw)
    if isinstance(dtype, str):
        assert isinstance(caught.value, UnsupportedError)
        assert dtype in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no\.safetensors"):
        Safetensors.open(tmp_path / "no.safetensors")


def test_dtypes_keep_their_block_types() -> None:
    assert DTYPES["BF16"] is BF16
    assert DTYPES["I8"] is I8
    assert all(kind.values == 1 for kind in DTYPES.values())
