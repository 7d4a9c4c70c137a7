"""Attacks on the readers of weights: cut and damaged files, GGUF's lies, JSON bombs, mutations by the thousand.

The pickles have their own file, test_pickles.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamero.errors import FormatError, LlameroError, UnsupportedError
from llamero.formats.blocks import F16, F32, Q4_K, Q8_0
from llamero.formats.gguf import GGUF, write_gguf
from llamero.formats.huggingface import write_hf
from llamero.formats.llama2c import Llama2c
from llamero.formats.meta import write_meta
from llamero.formats.open import open_model_file
from llamero.formats.pth import Checkpoint, write_pth
from llamero.formats.safetensors import Safetensors, write_safetensors
from llamero.formats.strings import StringArray
from llamero.formats.tensor import Reader, Tensor, TensorInfo

FROM_BUFFER: dict[str, Callable[[Any], Reader]] = {
    "gguf": GGUF.from_buffer,
    "safetensors": Safetensors.from_buffer,
    "pth": Checkpoint.from_buffer,
    "bin": Llama2c.from_buffer,
}


def read_all(reader: Reader) -> None:
    """Look at everything a model's loader would."""
    for value in reader.metadata.values():
        if isinstance(value, StringArray):
            list(value)
    for name in reader.tensors:
        reader.read(name).decode()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small valid file of every format, by the end of its name."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (F32, (8, 16)), "b.weight": (F16, (4, 32)), "norm.weight": (F32, (64,))}
    tensors = [
        Tensor(TensorInfo(name, kind, shape), kind.encode(rng.standard_normal(shape)))
        for name, (kind, shape) in shapes.items()
    ]
    quantised = [
        Tensor(TensorInfo(kind.name, kind, (2, 256)), kind.encode(rng.standard_normal((2, 256))))
        for kind in (Q8_0, Q4_K)
    ]
    metadata = {"general.architecture": "llama", "tokens": ["a", "", "ß", "x" * 300], "scores": [0.5, 1.0], "n": 3}
    write_gguf(folder / "m.gguf", metadata | {"flags": [True, False]}, [*quantised, *tensors])
    write_safetensors(folder / "m.safetensors", tensors, {"format": "pt", "note": "x"})
    write_pth(folder / "m.pth", tensors)
    counts = (4, 4, 1, 1, 1, 4, 1)
    weights = rng.standard_normal(16 + 4 + 4 * 16 + 4 + 3 * 16 + 4 + 4).astype(np.float32)
    (folder / "m.bin").write_bytes(struct.pack("<7i", *counts) + weights.tobytes())
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", FROM_BUFFER)
def test_the_good_files_are_good(good: dict[str, bytes], kind: str) -> None:
    read_all(FROM_BUFFER[kind](good[kind]))


@pytest.mark.parametrize("kind", FROM_BUFFER)
def test_cut_at_fifty_places(good: dict[str, bytes], kind: str, tmp_path: Path, refused: Any) -> None:
    whole = good[kind]
    path = tmp_path / f"cut.{kind}"
    opener = {"gguf": GGUF, "safetensors": Safetensors, "pth": Checkpoint, "bin": Llama2c}[kind].open
    for size in np.linspace(0, len(whole) - 1, 50).astype(int).tolist():
        path.write_bytes(whole[:size])
        assert "cut." in str(refused(opener, path))
        refused(open_model_file, path)


# GGUF, piece by piece.


def text(value: bytes | str, size: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if size is None else size) + raw


def pair(key: bytes | str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def described(
    name: bytes | str, dims: tuple[int, ...], kind: int = 0, offset: int = 0, count: int | None = None
) -> bytes:
    shape = struct.pack(f"<{len(dims)}Q", *dims)
    return (
        text(name) + struct.pack("<I", len(dims) if count is None else count) + shape + struct.pack("<IQ", kind, offset)
    )


def gguf(pairs: list[bytes], tensors: list[bytes], data: int = 0, counts: tuple[int, int] | None = None) -> bytes:
    """A GGUF file with `data` zero bytes after the padding; `counts` (tensors, pairs) may lie."""
    said = counts or (len(tensors), len(pairs))
    head = struct.pack("<4sIQQ", b"GGUF", 3, *said) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


U32, STRING, ARRAY = 4, 8, 9
ONE = struct.pack("<I", 1)
LIES: dict[str, tuple[bytes, str]] = {
    "tensor count": (gguf([], [], counts=(2**63, 0)), "tensor count 9223372036854775808 cannot be true"),
    "tensor count a little too large": (gguf([], [], 64, counts=(5, 0)), "tensor count 5 cannot"),
    "key count": (gguf([], [], counts=(0, 2**64 - 1)), "key count 18446744073709551615 cannot"),
    "key length": (gguf([text("k", 2**63) + ONE], []), "metadata key is 9223372036854775808 bytes"),
    "key length within the cap": (gguf([text("k", 60_000)], []), "a metadata key needs 60000 bytes"),
    "string length": (gguf([pair("k", STRING, text("v", 2**40))], []), "value of 'k' is 1099511627776 bytes"),
    "string length within the cap": (gguf([pair("k", STRING, text("v", 10**6))], []), "'k' needs 1000000 bytes"),
    "array of bytes": (gguf([pair("k", ARRAY, struct.pack("<IQ", 0, 2**60))], []), "length of 'k' 1152921504606846976"),
    "array of doubles": (gguf([pair("k", ARRAY, struct.pack("<IQ", 12, 60))], [], 64), "length of 'k' 60 cannot"),
    "array of strings": (
        gguf([pair("k", ARRAY, struct.pack("<IQ", 8, 2**61))], []),
        "length of 'k' 2305843009213693952",
    ),
    "strings past the end": (
        gguf([pair("k", ARRAY, struct.pack("<IQ", 8, 3) + text("a") + text("b", 2**62))], [], 64),
        r"k\[1\] at byte .* past the end",
    ),
    "more strings than there are": (
        gguf([pair("k", ARRAY, struct.pack("<IQ", 8, 20) + text("x" * 40) * 8)], []),
        r"k\[\d+\] at byte .* past the end",
    ),
    "array of arrays": (
        gguf([pair("k", ARRAY, struct.pack("<IQ", 9, 1) + bytes(16))], []),
        "'k' is an array of arrays",
    ),
    "array of an unknown type": (gguf([pair("k", ARRAY, struct.pack("<IQ", 77, 1))], []), "unknown value type 77"),
    "unknown value type": (gguf([pair("k", 13, ONE)], []), "'k' has the unknown value type 13"),
    "a bool of two": (gguf([pair("k", 7, b"\2")], []), "'k' is a bool with the value 2"),
    "bools of two": (gguf([pair("k", ARRAY, struct.pack("<IQ", 7, 2) + b"\1\2")], []), "other values than 0 and 1"),
    "a key twice": (gguf([pair("k", U32, ONE), pair("k", U32, ONE)], []), "'k' is there twice"),
    "a key that is not UTF-8": (gguf([pair(b"k\xff", U32, ONE)], []), "metadata key is not UTF-8"),
    "a value that is not UTF-8": (gguf([pair("k", STRING, text(b"\xc3"))], []), "value of 'k' is not UTF-8"),
    **{
        f"alignment of {size}": (
            gguf([pair("general.alignment", U32, struct.pack("<I", size))], [described("t", (8,))], 32),
            "power of two",
        )
        for size in (0, 3, 24, 2**32 - 1)
    },
    "alignment as text": (gguf([pair("general.alignment", STRING, text("32"))], []), "must be a U32"),
    "alignment beyond the file": (
        gguf([pair("general.alignment", U32, struct.pack("<I", 2**31))], [described("t", (8,))], 32),
        "'t' ends at byte 2147483680",
    ),
    "a tensor twice": (gguf([], [described("t", (8,)), described("t", (8,), offset=32)], 64), "'t' is there twice"),
    "a tensor name that is not UTF-8": (gguf([], [described(b"t\xfe", (8,))], 32), "tensor name is not UTF-8"),
    "a tensor name beyond the file": (
        gguf([], [text("t", 2**50) + bytes(64)]),
        "tensor name is 1125899906842624 bytes",
    ),
    "five dimensions": (gguf([], [described("t", (1, 1, 1, 1, 8))], 32), "'t' has 5 dimensions"),
    "four billion dimensions": (gguf([], [described("t", (8,), count=2**32 - 1)], 32), "4294967295 dimensions"),
    "a dimension of zero": (gguf([], [described("t", (8, 0))], 32), "dimension of 0"),
    "a product that wraps to 8": (gguf([], [described("t", (2**62 + 2, 4))], 32), "larger than the file"),
    "a product that wraps to 0": (gguf([], [described("t", (2**32, 2**32))], 32), "larger than the file"),
    "the largest dimensions": (gguf([], [described("t", (2**64 - 1,) * 4)], 32), "larger than the file"),
    "IQ2_XXS": (gguf([], [described("t", (256,), 16)], 128), r"'t': type IQ2_XXS \(16\) is not supported"),
    "MXFP4": (gguf([], [described("t", (256,), 39)], 256), "'t': type MXFP4"),
    "a type nobody knows": (gguf([], [described("t", (256,), 12345)], 256), "'t': type number 12345 is unknown"),
    "part of a block": (gguf([], [described("t", (33,), 8)], 64), "'t': a row of 33 values"),
    "an unaligned offset": (gguf([], [described("t", (8,), offset=16)], 64), "offset 16 is not aligned to 32"),
    "an offset beyond the file": (gguf([], [described("t", (8,), offset=2**63)], 64), "ends at byte 9223372036854775"),
    "one byte too few": (gguf([], [described("t", (8,))], 31), "cut short"),
    "overlapping tensors": (
        gguf([], [described("a", (16,)), described("b", (8,), offset=32)], 96),
        "'b' at offset 32 overlaps 'a', which ends at 64",
    ),
    "the same bytes for two": (gguf([], [described("a", (8,)), described("b", (8,))], 64), "overlaps"),
    "version 1": (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1 is not read"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian"),
    "another magic": (b"LGGF" + bytes(20), "begins with b'GGUF'"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_gguf_is_named(lie: str, refused: Any) -> None:
    raw, message = LIES[lie]
    error = refused(lambda: GGUF.from_buffer(raw, path="evil"))
    assert isinstance(error, FormatError)
    with pytest.raises(FormatError, match=f"evil.*{message}"):
        raise error
    if lie in ("IQ2_XXS", "MXFP4", "big-endian", "version 1", "array of arrays", "a type nobody knows"):
        assert isinstance(error, UnsupportedError)


def test_the_pieces_make_a_good_file() -> None:
    reader = GGUF.from_buffer(gguf([pair("k", U32, ONE)], [described("t", (8,))], 32))
    assert reader.metadata["k"] == 1
    assert reader.tensors["t"].shape == (8,)


def test_large_hostile_gguf(refused: Any) -> None:
    many = b"".join(pair(f"{i:06}", 0, b"\0") for i in range(70_000))
    refused(GGUF.from_buffer, gguf([many], [], counts=(0, 70_000)))
    strings = pair("k", ARRAY, struct.pack("<IQ", 8, 12_000_000) + bytes(12_000_000 * 8))
    refused(GGUF.from_buffer, gguf([strings], []))
    # The most strings there may be, of the slowest kind to walk, and then a lie.
    slow = (text(b"\0") + text("a" * 256)) * (1 << 16)
    strings = pair("k", ARRAY, struct.pack("<IQ", 8, 1 << 17) + slow)
    refused(GGUF.from_buffer, gguf([strings, pair("k", 99, b"")], []))
    empty = pair("k", ARRAY, struct.pack("<IQ", 8, 1 << 20) + bytes((1 << 20) * 8))
    refused(GGUF.from_buffer, gguf([empty, pair("k", 99, b"")], []))
    texts = b"".join(pair(f"k{i}", STRING, text("x" * 10**7)) for i in range(12))
    refused(GGUF.from_buffer, gguf([texts], [], counts=(0, 12)))
    flags = pair("k", ARRAY, struct.pack("<IQ", 7, 10**8) + bytes(10**8))
    refused(GGUF.from_buffer, gguf([flags], []))
    arrays = [pair(f"k{i}", ARRAY, struct.pack("<IQ", 8, 10**6) + bytes(8 * 10**6)) for i in range(8)]
    refused(GGUF.from_buffer, gguf(arrays, []))
    tensors = b"".join(described(f"{i:06}", (1,), offset=i * 32) for i in range(60_000))
    refused(GGUF.from_buffer, gguf([], [tensors], counts=(60_000, 0)))


def test_a_model_larger_than_memory_opens(tmp_path: Path, little_memory: Any) -> None:
    """Not an attack, but the same promise: opening costs the head, not the weights."""
    head = gguf([], [described("t", (2**20, 2**16), 2)])  # Q4_0, 36 GiB, a hole in the file
    with (tmp_path / "large.gguf").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + (2**36 // 32) * 18)
    with little_memory():
        tensor = open_model_file(tmp_path / "large.gguf").read("t")
        assert tensor.data.size == 2**36 // 32 * 18
        assert tensor.data[-1] == 0


# JSON, in headers and beside the weights.

BOMBS = {
    "deep": b'{"a":' * 400_000,
    "wide": b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
    "numbers": b'{"a":[' + b"1," * 5_000_000 + b"1]}",
    "a long text": b'{"a":"' + b"x" * 40_000_000 + b'"}',
    "a long text within the cap": b'{"a":"' + b"x" * 30_000_000 + b'"',
    "a long number": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a long key twice": (b'{"' + b"k" * 1_000_000 + b'":1,"' + b"k" * 1_000_000 + b'":1}'),
    "not UTF-8": b'{"\xff\xfe": 1}',
    "half a surrogate": b'{"\\ud800": "\\udfff"}',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_bombs(bomb: str, tmp_path: Path, refused: Any) -> None:
    raw = BOMBS[bomb]
    refused(Safetensors.from_buffer, struct.pack("<Q", len(raw)) + raw)
    (tmp_path / "config.json").write_bytes(raw)
    assert "config.json" in str(refused(open_model_file, tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_bytes(raw)
    refused(open_model_file, tmp_path)


# Mutations. Whatever the bytes, only a LlameroError may come out.

NASTY = [0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
EDIT = st.tuples(
    st.sampled_from(["set", "flip", "cut", "drop", "copy"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(NASTY),
    st.sampled_from([1, 2, 4, 8]),
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mutated(raw: bytes, edits: list[tuple[str, float, int, int]]) -> bytes:
    changed = bytearray(raw)
    for how, where, value, size in edits:
        at = int(where * len(changed))
        if how == "set":
            changed[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        elif how == "flip" and changed:
            changed[at % len(changed)] ^= 1 << value % 8
        elif how == "cut":
            del changed[at:]
        elif how == "drop":
            del changed[at : at + size]
        elif how == "copy":
            changed[at:at] = changed[at : at + size * 4]
    return bytes(changed)


def survives(opener: Callable[[bytes], Reader], raw: bytes) -> None:
    with suppress(LlameroError):
        read_all(opener(raw))


@pytest.mark.parametrize("part", ["head", "all"])
@pytest.mark.parametrize("kind", FROM_BUFFER)
@FUZZ
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutations(good: dict[str, bytes], kind: str, part: str, edits: list[tuple[str, float, int, int]]) -> None:
    whole = good[kind]
    size = {"gguf": 900, "safetensors": 320, "pth": 900, "bin": 28}[kind] if part == "head" else len(whole)
    survives(FROM_BUFFER[kind], mutated(whole[:size], edits) + whole[size:])


@FUZZ
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_mutations_of_the_safetensors_header(good: dict[str, bytes], edits: list[tuple[str, float, int, int]]) -> None:
    """With its length put right again, so that the JSON itself is reached."""
    whole = good["safetensors"]
    size = struct.unpack_from("<Q", whole)[0]
    header = mutated(whole[8 : 8 + size], edits)
    survives(Safetensors.from_buffer, struct.pack("<Q", len(header)) + header + whole[8 + size :])


def any_json() -> st.SearchStrategy[Any]:
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))


def any_entry() -> st.SearchStrategy[Any]:
    numbers = st.lists(st.integers(-1, 9) | st.sampled_from(NASTY), max_size=3)
    return st.fixed_dictionaries(
        {"dtype": st.sampled_from(["F32", "I8", "F8_E5M2", 4, None]), "shape": numbers, "data_offsets": numbers}
    )


@settings(FUZZ, max_examples=150)
@given(header=st.dictionaries(st.text(max_size=5), any_entry() | any_json(), max_size=3))
def test_any_json_as_safetensors_header(header: dict[str, Any]) -> None:
    raw = json.dumps(header).encode()
    survives(Safetensors.from_buffer, struct.pack("<Q", len(raw)) + raw + bytes(16))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hf: one file; index: only an index beside it; meta."""
    folder = tmp_path_factory.mktemp("json")
    norm = Tensor(TensorInfo("norm.weight", F32, (4,)), F32.encode(np.ones(4)))
    for name in ("hf", "index"):
        write_hf(folder / name, {}, [norm])
    (folder / "index" / "model.safetensors").rename(folder / "index" / "shard.safetensors")
    write_meta(folder / "meta", {"dim": 4}, [norm])
    return folder


@settings(FUZZ, max_examples=60)
@given(value=any_json(), other=any_json() | st.dictionaries(st.text(max_size=3), st.just("shard.safetensors")))
def test_any_json_beside_the_weights(folders: Path, value: Any, other: Any) -> None:
    (folders / "hf" / "config.json").write_text(json.dumps(value))
    survives(lambda _: open_model_file(folders / "hf"), b"")
    (folders / "index" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": other}))
    survives(lambda _: open_model_file(folders / "index"), b"")
    (folders / "meta" / "params.json").write_text(json.dumps({"dim": value, "vocab_size": other}))
    survives(lambda _: open_model_file(folders / "meta"), b"")
