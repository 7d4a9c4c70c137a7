"""Torch checkpoints: torch loads ours, we load torch's, and a pickle can do nothing here."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from llamero.errors import FormatError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.blocks import F32, Q8_0, TYPES
from llamero.formats.pth import STORAGES, Checkpoint, write_pth
from llamero.formats.tensor import Tensor, TensorInfo

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
DTYPES |= {"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64}


def saved(tmp_path: Path, value: object, **options: object) -> Path:
    torch.save(value, tmp_path / "m.pth", **options)
    return tmp_path / "m.pth"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_we_read_what_torch_writes(tmp_path: Path, protocol: int) -> None:
    tensors = {name: (torch.randn(3, 5) * 20).to(dtype) for name, dtype in DTYPES.items()}
    reader = Checkpoint.open(saved(tmp_path, tensors, pickle_protocol=protocol))
    assert reader.layout == "meta"
    assert reader.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert reader.tensors[name] == TensorInfo(name, TYPES[name], (3, 5))
        data = reader.read(name).data
        assert not data.flags.owndata
        np.testing.assert_array_equal(reader.read(name).decode(), value.to(torch.float32).numpy())


def test_modules_parameters_and_their_holders(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    for value in (
        module.state_dict(),
        OrderedDict(module.named_parameters()),
        {"model": module.state_dict(), "step": 3},
    ):
        reader = Checkpoint.open(saved(tmp_path, value))
        assert reader.tensors.keys() == module.state_dict().keys()
        for name, peer in module.state_dict().items():
            np.testing.assert_array_equal(reader.read(name).decode(), peer.numpy())
    reader = Checkpoint.open(
        saved(tmp_path, {"w": torch.ones(2), "step": 3, "note": ["a", 1.5, None, True, (2, -(2**70))]})
    )
    assert reader.metadata == {"step": 3, "note": ["a", 1.5, None, True, (2, -(2**70))]}


def test_views_of_a_shared_storage(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "whole": base,
        "rows": base[1:3],
        "one": base[2],
        "turned": base.T,
        "cut": base[1:, 2:5],
        "every": base[::2, ::3],
    }
    views |= {
        "scalar": base[3, 5],
        "empty": base[:0],
        "thin": base[:, 2:3],
        "deep": base.reshape(2, 2, 6).permute(2, 0, 1),
    }
    reader = Checkpoint.open(saved(tmp_path, views))
    for name, value in views.items():
        assert reader.tensors[name].shape == tuple(value.shape)
        np.testing.assert_array_equal(reader.read(name).decode(), value.numpy())
    assert not reader.read("rows").data.flags.owndata
    assert reader.read("turned").data.flags.owndata or reader.read("turned").data.base is not None


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_torch_reads_what_we_write(tmp_path: Path, weights_only: bool, mapped: bool) -> None:
    shapes = [(3, 5), (7,), (1,), ()]
    tensors = []
    for kind in STORAGES.values():
        for shape in shapes:
            values = np.rint(np.random.default_rng(0).standard_normal(shape) * 9)
            tensors.append(Tensor(TensorInfo(f"{kind.name}.{len(shape)}", kind, shape), kind.encode(values)))
    tensors = list({t.info.name: t for t in tensors}.values())
    write_pth(tmp_path / "m.00.pth", tensors)
    read = torch.load(tmp_path / "m.00.pth", weights_only=weights_only, mmap=mapped)
    assert list(read) == [t.info.name for t in tensors]
    for t in tensors:
        assert read[t.info.name].dtype == DTYPES[t.info.type.name]
        np.testing.assert_array_equal(read[t.info.name].to(torch.float32).numpy(), t.decode())
    ours = Checkpoint.open(tmp_path / "m.00.pth")
    for t in tensors:
        assert ours.tensors[t.info.name] == t.info
        np.testing.assert_array_equal(ours.read(t.info.name).data, t.data)
        assert ours.read(t.info.name).data.ctypes.data % 64 == 0
    ours.close()
    with pytest.raises(WeightsError, match=r"F32\.2"):
        ours.read("F32.2")


@pytest.mark.parametrize("limit", [40, 400])
def test_archives_beyond_4_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """The 64-bit fields, which the writer uses above a limit that is lowered here."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    tensors = [Tensor(TensorInfo(f"t{i}", F32, (i,)), F32.encode(np.arange(i))) for i in (3, 50, 200)]
    write_pth(tmp_path / "m.pth", tensors)
    assert b"PK\6\6" in (tmp_path / "m.pth").read_bytes()
    reader, peer = Checkpoint.open(tmp_path / "m.pth"), torch.load(tmp_path / "m.pth", weights_only=True, mmap=True)
    for t in tensors:
        np.testing.assert_array_equal(reader.read(t.info.name).data, t.data)
        np.testing.assert_array_equal(peer[t.info.name].numpy(), t.decode())
        assert reader.read(t.info.name).data.ctypes.data % 64 == 0


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    good = Tensor(TensorInfo("a", F32, (2,)), np.zeros(8, np.uint8))
    for tensors, text in (
        ([Tensor(TensorInfo("q", Q8_0, (32,)), np.zeros(34, np.uint8))], "'q': torch has no type Q8_0"),
        ([good, good], "two tensors are named 'a'"),
    ):
        with pytest.raises(SettingError, match=text):
            write_pth(tmp_path / "m.pth", tensors)
    with pytest.raises(WeightsError, match="takes 8 bytes, got 4"):
        write_pth(tmp_path / "m.pth", [Tensor(good.info, np.zeros(4, np.uint8))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.complex64, torch.float8_e4m3fn])
def test_an_unsupported_number_type_is_named(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path, {"layer": torch.zeros(2).to(dtype)})
    with pytest.raises(UnsupportedError, match=r"m\.pth.*(Storage|_rebuild_tensor_v3)"):
        Checkpoint.open(path)


def test_older_and_other_formats_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedError, match=r"before 1\.6"):
        Checkpoint.open(path)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO(b""))
    with pytest.raises(UnsupportedError, match="tar archive"):
        Checkpoint.open(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}." + bytes(100))
    with pytest.raises(UnsupportedError, match=r"m/data\.pkl.*compressed"):
        Checkpoint.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/other", b"")
    with pytest.raises(FormatError, match=r"one data\.pkl, this archive has 0"):
        Checkpoint.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl"):
            archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(UnsupportedError, match="TorchScript"):
        Checkpoint.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/byteorder", b"big")
    with pytest.raises(UnsupportedError, match="big-endian"):
        Checkpoint.open(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [([torch.ones(2)], "holds a list"), ({"step": 1}, "no tensors"), ({1: torch.ones(1)}, "name is a int")],
)
def test_a_checkpoint_without_named_tensors_is_refused(tmp_path: Path, value: object, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        Checkpoint.open(saved(tmp_path, value))


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.modules\.linear\.Linear.*runs nothing"):
        Checkpoint.open(saved(tmp_path, torch.nn.Linear(2, 2)))


def test_more_than_the_storage_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"'wide' of shape .* reaches outside"):
        Checkpoint.open(saved(tmp_path, {"wide": torch.ones(1).expand(1000)}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no\.pth"):
        Checkpoint.open(tmp_path / "no.pth")
