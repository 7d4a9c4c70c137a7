"""GGUF: reading and writing against the `gguf` package, and splits."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamero.errors import FormatError, ModelNotFound, SettingError, UnsupportedError, WeightsError
from llamero.formats.blocks import F16, F32, Q8_0, TYPES, BlockType
from llamero.formats.gguf import GGUF, Typed, ValueType, write_gguf
from llamero.formats.lazy import LazyTensor
from llamero.formats.strings import StringArray
from llamero.formats.tensor import Tensor, TensorInfo

DATA = Path(__file__).parents[3] / "shared" / "data"
REAL = ["tokenizers/ggml-vocab-gpt-2.gguf", "weights/llama-2-tiny-random.gguf"]

METADATA = {
    "general.architecture": "llama",
    "a.u8": Typed(ValueType.U8, 255),
    "a.i8": Typed(ValueType.I8, -128),
    "a.u16": Typed(ValueType.U16, 65535),
    "a.i16": Typed(ValueType.I16, -32768),
    "a.u32": Typed(ValueType.U32, 2**32 - 1),
    "a.i32": Typed(ValueType.I32, -(2**31)),
    "a.f32": Typed(ValueType.F32, 0.5),
    "a.bool": Typed(ValueType.BOOL, True),
    "a.u64": Typed(ValueType.U64, 2**64 - 1),
    "a.i64": Typed(ValueType.I64, -(2**63)),
    "a.f64": Typed(ValueType.F64, 1e300),
    "a.empty": "",
    "a.text": "Grüße 🦙\n\0end",
    "b.strings": ["", "a", "ß" * 200, "x" * 70000, "nul\0inside", *map(str, range(1000))],
    "b.no_strings": [],
    "b.bools": [True, False],
    "b.ints": [1, -2, 3],
    "b.wide": [1, -(2**40)],
    "b.floats": [1.5, 2],
    **{f"c.{kind}{size}": np.arange(3, dtype=f"{kind}{size}") for kind in "ui" for size in (1, 2, 4, 8)},
    **{f"c.f{size}": np.arange(3, dtype=f"f{size}") for size in (4, 8)},
}


def tensor(name: str, kind: BlockType, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    if kind.name.startswith("I") and kind.values == 1:
        values = np.rint(values)
    return Tensor(TensorInfo(name, kind, shape), kind.encode(values))


@pytest.fixture(scope="module")
def every_type() -> list[Tensor]:
    return [tensor(f"t.{kind.name}", kind, (3, 512), kind.id) for kind in TYPES.values()] + [tensor("one", F32, (5,))]


@pytest.mark.parametrize("name", REAL)
def test_real_files_read_as_the_peer_reads_them(name: str) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip("the shared test data is not here")
    ours, peer = GGUF.open(path), gguf.GGUFReader(path)
    assert ours.layout == "gguf"
    assert list(ours.metadata) == [key for key in peer.fields if not key.startswith("GGUF.")]
    for key, value in ours.metadata.items():
        assert (list(value) if isinstance(value, (StringArray, np.ndarray)) else value) == peer.fields[key].contents()
    assert list(ours.tensors) == [t.name for t in peer.tensors]
    for t in peer.tensors:
        read = ours.read(t.name)
        assert read.info.shape == tuple(int(n) for n in t.shape[::-1])
        np.testing.assert_array_equal(read.data, t.data.view(np.uint8).reshape(-1))


def test_the_peer_reads_what_we_write(tmp_path: Path, every_type: list[Tensor]) -> None:
    assert write_gguf(tmp_path / "m.gguf", METADATA, every_type) == [tmp_path / "m.gguf"]
    peer = gguf.GGUFReader(tmp_path / "m.gguf")
    for key, value in METADATA.items():
        want = value.value if isinstance(value, Typed) else value
        got = peer.fields[key].contents()
        assert got == (list(want) if isinstance(want, np.ndarray) else want), key
        if isinstance(value, Typed):
            assert peer.fields[key].types == [gguf.GGUFValueType(int(value.type))]
    for t, was in zip(peer.tensors, every_type, strict=True):
        assert (t.name, t.tensor_type.name) == (was.info.name, was.info.type.name)
        np.testing.assert_array_equal(t.data.view(np.uint8).reshape(-1), was.data)


def test_we_read_what_the_peer_writes(tmp_path: Path, every_type: list[Tensor]) -> None:
    writer = gguf.GGUFWriter(tmp_path / "p.gguf", "llama")
    writer.add_array("tokens", ["a", "b c", "日本"])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_uint64("big", 2**60)
    for t in every_type:
        rows = t.data.reshape(t.info.shape[0], -1) if t.info.type.values > 1 else t.decode()
        if t.info.type.values > 1 or t.info.type is F32:
            writer.add_tensor(t.info.name, rows, raw_dtype=gguf.GGMLQuantizationType(t.info.type.id))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours = GGUF.open(tmp_path / "p.gguf")
    assert list(ours.metadata["tokens"]) == ["a", "b c", "日本"]
    assert ours.metadata["scores"].tolist() == [0.5, -1.0]
    assert (ours.metadata["big"], ours.types["big"]) == (2**60, ValueType.U64)
    by_name = {t.info.name: t for t in every_type}
    for name, info in ours.tensors.items():
        assert info == by_name[name].info
        np.testing.assert_array_equal(ours.read(name).data, by_name[name].data)


def test_metadata_goes_round_with_its_types(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", METADATA, [])
    first = GGUF.open(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf", first.typed_metadata(), [])
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    plain = {"count": 3, "negative": -3, "large": 2**40, "largest": 2**64 - 1}
    plain |= {"rate": 1e-5, "on": True, "numpy": np.int8(3)}
    write_gguf(tmp_path / "c.gguf", plain, [])
    assert [kind.name for kind in GGUF.open(tmp_path / "c.gguf").types.values()] == [
        *("U32", "I32", "I64", "U64", "F32", "BOOL", "I8")
    ]


@pytest.mark.parametrize(
    "value",
    [
        *(None, {}, 1j, 2**64, -(2**63) - 1, [[1]], [1, "a"], [None], [True, 1], [2**64], [-1, 2**63]),
        *(np.zeros((2, 2)), np.zeros(2, "c8")),
        *(Typed(ValueType.U8, 256), Typed(ValueType.U32, -1), Typed(ValueType.F32, 1e300), Typed(ValueType.U8, "a")),
    ],
    ids=repr,
)
def test_metadata_that_gguf_cannot_hold_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(SettingError, match=r"metadata the\.key"):
        write_gguf(tmp_path / "a.gguf", {"the.key": value}, [])
    assert list(tmp_path.iterdir()) == []


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, [tensor("t", F16, (8, 8))])
    reader = GGUF.open(tmp_path / "m.gguf")
    data = reader.read("t").data
    assert not data.flags.owndata
    assert not data.flags.writeable
    assert data.ctypes.data % 32 == 0
    before = data.copy()
    reader.close()
    np.testing.assert_array_equal(data, before)
    with pytest.raises(WeightsError, match="'t'"):
        reader.read("t")


def test_reading_from_inside_a_buffer(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"k": ["v"]}, [tensor("t", Q8_0, (2, 64))])
    raw = (tmp_path / "m.gguf").read_bytes()
    reader = GGUF.from_buffer(b"12345" + raw + b"tail", 5, len(raw), path="inside")
    np.testing.assert_array_equal(reader.read("t").data, tensor("t", Q8_0, (2, 64)).data)
    assert list(reader.metadata["k"]) == ["v"]
    with pytest.raises(FormatError, match="inside"):
        GGUF.from_buffer(raw, len(raw) + 1, path="inside")


def test_version_2_reads_and_others_are_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"k": 1}, [tensor("t", F32, (2, 8))])
    raw = bytearray((tmp_path / "m.gguf").read_bytes())
    raw[4:8] = struct.pack("<I", 2)
    assert GGUF.from_buffer(raw).metadata["k"] == 1
    for version, text in ((1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")):
        raw[4:8] = struct.pack("<I", version)
        with pytest.raises(UnsupportedError, match=text):
            GGUF.from_buffer(raw)


def test_alignment(tmp_path: Path) -> None:
    tensors = [tensor("a", F32, (3,)), tensor("b", F32, (5,))]
    write_gguf(tmp_path / "m.gguf", {}, tensors, alignment=256)
    reader = GGUF.open(tmp_path / "m.gguf")
    assert reader.metadata["general.alignment"] == 256
    assert reader.read("b").data.ctypes.data % 256 == 0
    write_gguf(tmp_path / "again.gguf", reader.typed_metadata(), tensors)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()
    for metadata, alignment in (({}, 24), ({"general.alignment": 64}, 32), ({}, 0)):
        with pytest.raises(SettingError, match="alignment"):
            write_gguf(tmp_path / "x.gguf", metadata, tensors, alignment=alignment)


def test_splits_go_both_ways(tmp_path: Path) -> None:
    tensors = [tensor(f"t{i}", F32, (8, 32), i) for i in range(5)]
    parts = write_gguf(tmp_path / "m.gguf", {"k": "v"}, tensors, max_tensors=2)
    assert [part.name for part in parts] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts:
        reader = GGUF.open(part)
        assert reader.metadata["k"] == "v"
        assert list(reader.tensors) == [f"t{i}" for i in range(5)]
        for t in tensors:
            np.testing.assert_array_equal(reader.read(t.info.name).data, t.data)
    by_size = write_gguf(tmp_path / "n.gguf", {}, tensors, max_bytes=2048)
    assert [len(gguf.GGUFReader(part).tensors) for part in by_size] == [2, 2, 1]
    peer = gguf.GGUFReader(by_size[1])
    assert {key: peer.fields[key].contents() for key in ("split.no", "split.count", "split.tensors.count")} == {
        "split.no": 1,
        "split.count": 3,
        "split.tensors.count": 5,
    }
    whole = write_gguf(tmp_path / "w.gguf", GGUF.open(parts[0]).typed_metadata(), tensors)
    assert "split.count" not in GGUF.open(whole[0]).metadata


def test_a_missing_or_wrong_part_is_named(tmp_path: Path) -> None:
    tensors = [tensor(f"t{i}", F32, (8,), i) for i in range(3)]
    parts = write_gguf(tmp_path / "m.gguf", {}, tensors, max_tensors=1)
    second = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(ModelNotFound, match=r"part 2 of 3 is missing.*m-00002-of-00003"):
        GGUF.open(parts[2])
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(FormatError, match=r"m-00002-of-00003.gguf: split.no"):
        GGUF.open(parts[0])
    (tmp_path / "alone.gguf").write_bytes(second)
    with pytest.raises(UnsupportedError, match="one of 3 parts"):
        GGUF.open(tmp_path / "alone.gguf")


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    def broken() -> np.ndarray:
        raise RuntimeError("the disk is on fire")

    good = tensor("a", F32, (4,))
    with pytest.raises(RuntimeError, match="fire"):
        write_gguf(tmp_path / "m.gguf", {}, [good, LazyTensor(TensorInfo("b", F32, (4,)), broken)])
    with pytest.raises(WeightsError, match=r"tensor b: F32 of shape \(4,\) takes 16 bytes, got 4"):
        write_gguf(tmp_path / "m.gguf", {}, [Tensor(TensorInfo("b", F32, (4,)), np.zeros(4, np.uint8))])
    for name in ("a", "", "x" * 64):
        with pytest.raises(SettingError, match="name"):
            write_gguf(tmp_path / "m.gguf", {}, [good, Tensor(TensorInfo(name, F32, (4,)), good.data)])
    assert list(tmp_path.iterdir()) == []


def test_lazy_tensors_are_made_one_at_a_time(tmp_path: Path) -> None:
    made: list[str] = []

    def load(name: str) -> np.ndarray:
        made.append(name)
        return np.full(4096, len(made), np.uint8)

    lazy = [LazyTensor(TensorInfo(n, F32, (1024,)), lambda n=n: load(n)) for n in "abc"]
    write_gguf(tmp_path / "m.gguf", {}, lazy)
    assert made == ["a", "b", "c"]
    assert GGUF.open(tmp_path / "m.gguf").read("c").data[0] == 3


def test_a_large_vocabulary_opens_at_once(tmp_path: Path) -> None:
    tokens = [f"token{i}" for i in range(128_256)]
    merges = [f"Ġpiece{i} and{i % 977}" for i in range(280_147)]
    write_gguf(tmp_path / "v.gguf", {"tokens": tokens, "merges": merges, "types": [1] * len(tokens)}, [])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        reader = GGUF.open(tmp_path / "v.gguf")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15
    assert list(reader.metadata["tokens"]) == tokens
    assert list(reader.metadata["merges"]) == merges
    spans, buffer = reader.metadata["merges"].raw()
    first, end = spans[280_146]
    assert bytes(buffer[first:end]).decode() == merges[-1] == reader.metadata["merges"][-1]


def test_strings_are_found_whatever_they_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lengths = rng.choice([0, 1, 7, 8, 9, 255, 256, 257, 600], 3000)
    awkward = ["\0" * n if n % 2 else "".join(map(chr, rng.integers(0, 128, n))) for n in lengths.tolist()]
    awkward += ["\x01" + "\0" * 7 + "a"] * 50 + [""] * 5000 + ["x"] * 70
    write_gguf(tmp_path / "s.gguf", {"before": 1, "s": awkward, "after": "intact"}, [])
    reader = GGUF.open(tmp_path / "s.gguf")
    assert list(reader.metadata["s"]) == awkward
    assert reader.metadata["s"][-120:-118] == awkward[-120:-118]
    assert reader.metadata["after"] == "intact"


def test_a_string_that_is_not_utf8_can_still_be_had_as_bytes(tmp_path: Path) -> None:
    write_gguf(tmp_path / "s.gguf", {"s": ["good", "bad?"]}, [])
    raw = (tmp_path / "s.gguf").read_bytes().replace(b"bad?", b"bad\xff")
    strings = GGUF.from_buffer(raw, path="broken").metadata["s"]
    assert strings[0] == "good"
    with pytest.raises(FormatError, match=r"broken: s\[1\] is not UTF-8"):
        list(strings)
    assert strings.bytes_at(1) == b"bad\xff"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"nothing\.gguf"):
        GGUF.open(tmp_path / "nothing.gguf")
    with pytest.raises(ModelNotFound, match="folder"):
        GGUF.open(tmp_path)
