"""llama2.c files: three versions of the same trained model, and made ones with every odd setting."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from llamero.errors import FormatError, ModelNotFound, UnsupportedError, WeightsError
from llamero.formats.llama2c import Llama2c, is_llama2c

DATA = Path(__file__).parents[3] / "shared" / "data" / "weights"
DIM, HIDDEN, LAYERS, HEADS, KV, VOCAB, CONTEXT = COUNTS = (8, 12, 2, 4, 2, 10, 16)
MATRICES = [("wq", (8, 8)), ("wk", (4, 8)), ("wv", (4, 8)), ("wo", (8, 8))]
FEED = [("w1", (12, 8)), ("w2", (8, 12)), ("w3", (12, 8))]


def weights(tied: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings.weight": (VOCAB, DIM), "norm.weight": (DIM,)}
    for layer in range(LAYERS):
        shapes |= {f"layers.{layer}.attention.{name}.weight": shape for name, shape in MATRICES}
        shapes |= {f"layers.{layer}.feed_forward.{name}.weight": shape for name, shape in FEED}
        shapes |= {f"layers.{layer}.{name}.weight": (DIM,) for name in ("attention_norm", "ffn_norm")}
    if not tied:
        shapes["output.weight"] = (VOCAB, DIM)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def layers(name: str) -> list[str]:
    return [f"layers.{layer}.{name}.weight" for layer in range(LAYERS)]


def matrices(tied: bool) -> list[str]:
    names = ["tok_embeddings.weight"]
    for name, _ in MATRICES:
        names += layers(f"attention.{name}")
    for name, _ in FEED:
        names += layers(f"feed_forward.{name}")
    return names if tied else [*names, "output.weight"]


def version_0(values: dict[str, np.ndarray], tied: bool) -> bytes:
    order = ["tok_embeddings.weight", *layers("attention_norm"), *matrices(True)[1 : 1 + 4 * LAYERS]]
    order += [*layers("ffn_norm"), *matrices(True)[1 + 4 * LAYERS :], "norm.weight"]
    raw = struct.pack("<7i", *COUNTS[:5], VOCAB if tied else -VOCAB, CONTEXT)
    raw += b"".join(values[name].tobytes() for name in order) + bytes(CONTEXT * DIM // HEADS * 4)
    return raw if tied else raw + values["output.weight"].tobytes()


def version_1(values: dict[str, np.ndarray], tied: bool, version: int = 1) -> bytes:
    raw = struct.pack("<4s8iB", b"24ka", version, *COUNTS, tied).ljust(256, b"\0")
    order = [*layers("attention_norm"), *layers("ffn_norm"), "norm.weight", *matrices(tied)]
    return raw + b"".join(values[name].tobytes() for name in order)


def version_2(values: dict[str, np.ndarray], tied: bool, group: int) -> tuple[bytes, dict[str, np.ndarray]]:
    raw = struct.pack("<4s8iBi", b"24ka", 2, *COUNTS, tied, group).ljust(256, b"\0")
    rounded = {}
    for name in (*layers("attention_norm"), *layers("ffn_norm"), "norm.weight"):
        raw += values[name].tobytes()
        rounded[name] = values[name]
    for name in matrices(tied):
        groups = values[name].reshape(-1, group)
        scale = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
        q = np.rint(groups / scale).astype(np.int8)
        raw += q.tobytes() + scale.tobytes()
        rounded[name] = (q * scale).reshape(values[name].shape)
    return raw, rounded


def check(raw: bytes, expected: dict[str, np.ndarray], tied: bool) -> None:
    reader = Llama2c.from_buffer(raw)
    assert reader.layout == "meta"
    assert reader.metadata == {
        "dim": DIM, "ffn_dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": KV, "vocab_size": VOCAB,
        "max_seq_len": CONTEXT, "norm_eps": 1e-5, "tied": tied,
    }  # fmt: skip
    assert {name: info.shape for name, info in reader.tensors.items()} == {n: v.shape for n, v in expected.items()}
    for name, value in expected.items():
        np.testing.assert_array_equal(reader.read(name).decode(), value)


@pytest.mark.parametrize("tied", [True, False])
def test_every_version(tied: bool) -> None:
    values = weights(tied)
    check(version_0(values, tied), values, tied)
    check(version_1(values, tied), values, tied)
    for group in (4, 8, 16):
        raw, rounded = version_2(values, tied, group)
        check(raw, rounded, tied)


def test_the_trained_model_is_the_same_in_all_versions() -> None:
    paths = [DATA / name for name in ("stories260K.bin", "stories260K_v1.bin", "stories260K_v2_q80.bin")]
    if not all(path.exists() for path in paths):
        pytest.skip("the shared test data is not here")
    plain, first, rounded = map(Llama2c.open, paths)
    assert plain.metadata == first.metadata == rounded.metadata
    assert plain.metadata["tied"] is True
    assert plain.tensors == first.tensors == rounded.tensors
    for name in plain.tensors:
        values = plain.read(name).decode()
        np.testing.assert_array_equal(first.read(name).decode(), values)
        assert np.linalg.norm(rounded.read(name).decode() - values) < 0.008 * np.linalg.norm(values)
    assert not plain.read("norm.weight").data.flags.owndata
    plain.close()
    with pytest.raises(WeightsError, match=r"norm\.weight"):
        plain.read("norm.weight")


def test_recognising_without_magic() -> None:
    raw = version_0(weights(True), True)
    assert is_llama2c(raw[:256], len(raw))
    assert not is_llama2c(raw[:256], len(raw) + 4)
    assert not is_llama2c(b"short", 5)
    assert not is_llama2c(b"\xff" * 256, 1000)
    assert is_llama2c(version_1(weights(True), True)[:256], 0)


def changed(raw: bytes, at: int, kind: str, value: int) -> bytes:
    return raw[:at] + struct.pack(kind, value) + raw[at + struct.calcsize(kind) :]


def test_broken_files_are_refused() -> None:
    tied = version_1(weights(True), True)
    for raw, text in (
        (b"24ka", "too few"),
        (tied[:200], "too few"),
        (tied[:-1], "cut short"),
        (tied + b"\0", "cut short or no"),
        (changed(tied, 8, "<i", 0), "dim is 0"),
        (changed(tied, 16, "<i", 2**30), "n_layers is 1073741824"),
        (changed(tied, 20, "<i", 3), "do not divide"),
        (changed(tied, 36, "<B", 2), "shared classifier is 2"),
        (changed(version_2(weights(True), True, 8)[0], 37, "<i", 0), "groups of 0"),
        (changed(version_2(weights(True), True, 8)[0], 37, "<i", 7), "groups of 7"),
        (b"\x01" * 300, "dim is 16843009"),
    ):
        with pytest.raises(FormatError, match=f"<buffer>.*{text}"):
            Llama2c.from_buffer(raw)
    with pytest.raises(UnsupportedError, match="version 3"):
        Llama2c.from_buffer(version_1(weights(True), True, 3))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no\.bin"):
        Llama2c.open(tmp_path / "no.bin")
