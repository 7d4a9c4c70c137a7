"""The block types against the `gguf` package, and their own promises."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from llamero.errors import FormatError, UnsupportedError, WeightsError
from llamero.formats import blocks
from llamero.formats.blocks import BY_ID, TYPES, UNSUPPORTED, BlockType, block_type

QUANTISED = [kind for kind in TYPES.values() if kind.values > 1]
FLOATS = [TYPES[name] for name in ("F32", "F16", "BF16")]
INTEGERS = [TYPES[name] for name in ("I8", "I16", "I32", "I64")]


def by_name(kind: BlockType) -> str:
    return kind.name


def peer(kind: BlockType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(kind.id)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Gaussian rows of very different sizes, with whole blocks of zeros, of one value and of one sign among them."""
    rng = np.random.default_rng(20)
    rows = rng.standard_normal((48, 1024)).astype(np.float32) * np.float32(10.0) ** rng.integers(-4, 3, (48, 1))
    rows = rows.astype(np.float32)
    rows[1] = 0
    rows[2] = 0.25
    rows[3] = np.abs(rows[3])
    rows[4] = -np.abs(rows[4])
    rows[5, ::7] = 0
    return rows


@pytest.mark.parametrize("kind", TYPES.values(), ids=by_name)
def test_table_agrees_with_ggml(kind: BlockType) -> None:
    assert gguf.GGML_QUANT_SIZES[peer(kind)] == (kind.values, kind.size)
    assert peer(kind).name == kind.name
    assert BY_ID[kind.id] is kind
    assert getattr(blocks, kind.name) is kind


def test_unsupported_names_agree_with_ggml() -> None:
    known = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    assert known.keys() <= BY_ID.keys() | UNSUPPORTED.keys()
    assert {number: known[number] for number in known.keys() & UNSUPPORTED.keys()}.items() <= UNSUPPORTED.items()


@pytest.mark.parametrize("kind", QUANTISED + FLOATS, ids=by_name)
def test_decode_of_any_bytes_is_the_peers(kind: BlockType) -> None:
    stored = np.random.default_rng(kind.id).integers(0, 256, (33, kind.size * 8), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(stored, peer(kind)).reshape(-1)
    np.testing.assert_array_equal(kind.decode(stored.reshape(-1)), expected)


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_encode_is_the_peers_bit_for_bit(name: str, values: np.ndarray) -> None:
    expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8).reshape(-1)
    np.testing.assert_array_equal(TYPES[name].encode(values), expected)


def test_halves_round_away_from_zero_in_q8_0() -> None:
    row = np.array([127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5] + [0] * 25, dtype=np.float32)
    np.testing.assert_array_equal(blocks.Q8_0.encode(row)[2:9].view(np.int8), [127, 1, -1, 2, -2, 3, -3])


ERROR = {"Q8_0": 0.006, "Q6_K": 0.018, "Q5_K": 0.037, "Q4_K": 0.073, "Q3_K": 0.147, "Q2_K": 0.28}
ERROR |= {"IQ4_NL": 0.077, "IQ4_XS": 0.077, "Q4_0": 0.087, "Q4_1": 0.079, "Q5_0": 0.044, "Q5_1": 0.039}


@pytest.mark.parametrize("kind", QUANTISED, ids=by_name)
def test_error_on_gaussian_values(kind: BlockType) -> None:
    x = np.random.default_rng(1).standard_normal((16, 4096)).astype(np.float32)
    back = kind.decode(kind.encode(x)).reshape(x.shape)
    assert np.linalg.norm(back - x) / np.linalg.norm(x) < ERROR[kind.name]


@pytest.mark.parametrize("kind", QUANTISED, ids=by_name)
def test_odd_rows_keep_their_size(kind: BlockType, values: np.ndarray) -> None:
    back = kind.decode(kind.encode(values)).reshape(values.shape)
    assert not back[1].any(), "zeros stay zeros"
    np.testing.assert_allclose(back[2], 0.25, rtol=0.01)
    for row, was in zip(back, values, strict=True):
        assert np.linalg.norm(row - was) <= 0.4 * np.linalg.norm(was)


@pytest.mark.parametrize("kind", QUANTISED, ids=by_name)
def test_scaling_the_values_scales_the_error(kind: BlockType) -> None:
    x = np.random.default_rng(2).standard_normal(4096).astype(np.float32)
    error = [np.linalg.norm(kind.decode(kind.encode(x * s)) / s - x) for s in (np.float32(0.01), np.float32(100))]
    assert error[0] == pytest.approx(error[1], rel=0.02)


@pytest.mark.parametrize("kind", QUANTISED, ids=by_name)
def test_encoding_what_was_decoded_changes_little(kind: BlockType) -> None:
    x = np.random.default_rng(3).standard_normal(4096).astype(np.float32)
    once = kind.decode(kind.encode(x))
    twice = kind.decode(kind.encode(once))
    assert np.linalg.norm(twice - once) < 0.6 * np.linalg.norm(once - x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", QUANTISED, ids=by_name)
def test_quantised_types_refuse_what_is_not_finite(kind: BlockType, bad: float) -> None:
    x = np.ones(512, dtype=np.float32)
    x[300] = bad
    with pytest.raises(WeightsError, match=kind.name):
        kind.encode(x)


def test_floats_keep_infinities_and_nan() -> None:
    x = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-40], dtype=np.float32)
    for kind in FLOATS:
        back = kind.decode(kind.encode(x))
        np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
        np.testing.assert_array_equal(back[:2], x[:2])
        assert np.signbit(back[3])


@pytest.mark.parametrize("kind", INTEGERS, ids=by_name)
def test_integers_go_both_ways_and_refuse_fractions(kind: BlockType) -> None:
    x = np.array([0, -1, 100, -128], dtype=np.float32)
    np.testing.assert_array_equal(kind.decode(kind.encode(x)), x)
    for bad in (0.5, 1e30, np.nan):
        with pytest.raises(FormatError, match="whole number"):
            kind.encode(np.array([bad], dtype=np.float32))
    limit = np.iinfo(f"i{kind.size}")
    with pytest.raises(FormatError, match=str(limit.max)):
        kind.encode(np.array([limit.max], dtype=np.float64).astype(np.float32) + np.float32(kind.size < 4))


def test_sizes_and_parts_of_blocks() -> None:
    assert blocks.Q4_K.nbytes((3, 512)) == 3 * 2 * 144
    assert blocks.F32.nbytes(()) == 4
    for kind in QUANTISED:
        with pytest.raises(FormatError, match=rf"{kind.name} blocks of {kind.values}"):
            kind.nbytes((kind.values, 33))
        with pytest.raises(FormatError, match="whole number"):
            kind.decode(np.zeros(kind.size + 1, dtype=np.uint8))
        with pytest.raises(FormatError, match="whole number"):
            kind.encode(np.zeros(kind.values + 1, dtype=np.float32))


@pytest.mark.parametrize(
    ("number", "text"), [(16, r"IQ2_XXS \(16\)"), (39, "MXFP4"), (4, "Q4_2"), (999, "999 is unknown")]
)
def test_a_type_without_support_is_named(number: int, text: str) -> None:
    with pytest.raises(UnsupportedError, match=text):
        block_type(number)
