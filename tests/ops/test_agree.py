"""Every operation of every implementation agrees with numpy_ops: all block types, all instruction sets, odd sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from llamero.formats.blocks import TYPES, BlockType
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.ops.native_ops import NativeOps, levels
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span, StoreShape
from llamero.ops.torch_ops import TorchOps

Floats = NDArray[np.float32]

ORACLE = NumpyOps()
WEIGHT_TYPES = [name for name in TYPES if name not in {"I8", "I16", "I32", "I64"}]
EXACT = {"F32", "F64"}  # types whose products meet float activations
FINE = {"F16": 2.0**-11, "BF16": 2.0**-8}  # types that meet activations of their own precision: its relative error
GROUPS_OF_16 = {"Q2_K", "Q3_K", "Q6_K"}  # where 64 activations may share a scale, elsewhere 32
TOKENS = (1, 2, 3, 4, 5, 8, 9, 17, 64, 130)
ROWS = (1, 3, 17, 33)


@pytest.fixture(scope="module")
def machines() -> list[NativeOps]:
    return [NativeOps(threads, level) for level in levels() for threads in (1, 2, 3)]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(list(request.node.name.encode()))


def tensor(values: Floats, kind: BlockType = TYPES["F32"]) -> Tensor:
    return Tensor(TensorInfo("w", kind, values.shape), kind.encode(values))


def normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, np.float32)


def lengths(kind: BlockType) -> tuple[int, ...]:
    """Row lengths worth trying for a type: one block, a few, and around the kernels' own steps."""
    return {1: (1, 2, 31, 64, 255, 545), 32: (32, 64, 96, 256, 544), 256: (256, 512, 768)}[kind.values]


def assert_product(got: Floats, x: Floats, w: Floats, name: str) -> None:
    """The product is right to the last bits of a float, or to what its type's activations cost.

    Activations of block types have 8 bits in groups of 32.

    Rounding to steps of max / 127 changes a group by at most its share; sums of k independent errors grow as sqrt(k).
    """
    want = x.astype(np.float64) @ w.astype(np.float64).T
    scale = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1)  # |x| |w| bounds each product
    error = np.abs(got - want) / np.where(scale > 0, scale, 1)
    if name in EXACT or name in FINE:
        assert error.max() < FINE.get(name, 2e-6)
    else:
        assert error.max() < 2e-2
        assert error.size < 64 or np.sqrt(np.mean(error**2) * x.shape[1]) < 1.2e-2


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_low_rank_changes(name: str, machines: list[NativeOps], rng: np.random.Generator) -> None:
    kind = TYPES[name]
    for tokens, k, ranks in ((1, 31, (1, 4)), (5, 300, (3, 16)), (40, 64, (8, 33))):
        x, outs = normal(rng, tokens, k), (7, 600)
        mine = np.array_split(rng.permutation(tokens), 3)
        rows = [sorted(part.tolist()) for part in mine if len(part)]
        y = [normal(rng, tokens, out) for out in outs]
        want = [each.astype(np.float64) for each in y]
        parts = []
        for place, out in enumerate(outs):
            for part, rank in zip(rows, ranks, strict=False):  # the third part of the rows stays as it is
                a, b = tensor(normal(rng, rank, k), kind), tensor(normal(rng, rank, out), kind)
                want[place][part] += x[part].astype(np.float64) @ a.decode().T @ b.decode()
                parts.append((place, part, a, b))
        for ops in [*machines, ORACLE, TorchOps()]:
            if isinstance(ops, NativeOps):
                given, products = ops.array(x), [ops.array(each) for each in y]
            elif isinstance(ops, NumpyOps):
                given, products = x, [each.copy() for each in y]
            else:
                given, products = torch.from_numpy(x), [torch.from_numpy(each.copy()) for each in y]
            ops.add_low_rank(given, products, [(p, r, ops.weight(a), ops.weight(b)) for p, r, a, b in parts])
            for found, right in zip(products, want, strict=True):
                np.testing.assert_allclose(ops.numpy(found), right, rtol=1e-4, atol=1e-3 * np.sqrt(k))


def test_low_rank_changes_that_do_not_fit(rng: np.random.Generator) -> None:
    ops = NativeOps(1)
    x, y = ops.array(normal(rng, 3, 32)), ops.array(normal(rng, 3, 20))
    a, b = (ops.weight(tensor(normal(rng, 4, width))) for width in (32, 20))
    quantised = ops.weight(tensor(normal(rng, 4, 32), TYPES["Q8_0"]))
    ops.add_low_rank(x, [y], [(0, [2], a, b)])
    for change in ((0, [3], a, b), (0, [-1], a, b), (0, [0], b, a), (0, [0], quantised, b)):
        with pytest.raises(ValueError, match="add_low_rank"):
            ops.add_low_rank(x, [y], [change])
    with pytest.raises(IndexError):
        ops.add_low_rank(x, [y], [(1, [0], a, b)])


@pytest.mark.parametrize("name", WEIGHT_TYPES)
def test_matmul(name: str, machines: list[NativeOps], rng: np.random.Generator) -> None:
    kind = TYPES[name]
    for k in lengths(kind):
        tensors = [tensor(normal(rng, rows, k), kind) for rows in ROWS]
        decoded = [t.decode() for t in tensors]
        held = {ops: [ops.weight(t) for t in tensors] for ops in machines}
        for tokens in TOKENS:
            x = normal(rng, tokens, k)
            for ops, weights in held.items():
                for got, w in zip(ops.matmul(ops.array(x), *weights), decoded, strict=True):
                    assert_product(ops.numpy(got), x, w, name)


def rounding_bound(name: str, x: Floats, w: Floats) -> NDArray[np.float64]:
    """How far a product may be off: half a step of each value's group of 32, or the relative error of its type."""
    x, w = np.abs(x).astype(np.float64), np.abs(w).astype(np.float64)
    exact = 1e-5 * x @ w.T + 1e-30
    if name in EXACT:
        return exact
    if name == "BF16":
        return exact + FINE[name] * x @ w.T
    if name == "F16":  # both sides have steps, of the largest / 8191 of 32 weights or 128 activations
        return exact + (largest(x, 128) @ total(w, 128).T + total(x, 32) @ largest(w, 32).T) / 8191 * 0.51
    size = 64 if name in GROUPS_OF_16 else 32
    return exact + largest(x, size) @ total(w, size).T / 127 * 0.51


def largest(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The largest of each `size` neighbours in a row."""
    found: NDArray[np.float64] = values.reshape(len(values), -1, size).max(axis=2)
    return found


def total(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The sum of each `size` neighbours in a row."""
    found: NDArray[np.float64] = values.reshape(len(values), -1, size).sum(axis=2)
    return found


@pytest.mark.parametrize("name", WEIGHT_TYPES)
def test_matmul_of_extremes(name: str, machines: list[NativeOps], rng: np.random.Generator) -> None:
    """Zeros, outliers, tiny and large numbers, on both sides."""
    kind, k = TYPES[name], 512
    w = normal(rng, 9, k)
    w[0] = 0
    w[1] *= 1e-5
    w[2] *= 3e3
    w[3, :] = np.where(np.arange(k) % 77 == 0, 50, 0.01)
    w[4] = 1
    w[5] = -1
    x = normal(rng, 10, k)
    x[0] = 0
    x[1] *= 1e-20
    x[2] *= 1e15
    x[3, 5] = 1000
    x[4] = 1
    stored = tensor(w, kind)
    for ops in machines:
        for rows in (slice(0, 10), *(slice(i, i + 1) for i in range(6))):
            (got,) = ops.matmul(ops.array(x[rows]), ops.weight(stored))
            want = x[rows].astype(np.float64) @ stored.decode().astype(np.float64).T
            bound = rounding_bound(name, x[rows], stored.decode())
            assert (np.abs(ops.numpy(got) - want) <= bound).all(), (ops.level, rows)


@pytest.mark.parametrize("names", [("Q4_K", "Q6_K", "F32"), ("F16", "BF16", "Q8_0"), ("IQ4_XS", "Q2_K", "Q5_1", "F16")])
def test_matmul_of_many_rows_and_mixed_types(
    names: tuple[str, ...], machines: list[NativeOps], rng: np.random.Generator
) -> None:
    """Enough work to be shared out, in pieces that never fit evenly."""
    tensors = [
        tensor(normal(rng, rows, 512), TYPES[name]) for name, rows in zip(names, (1027, 259, 61, 7), strict=False)
    ]
    for tokens in (1, 4, 70):
        x = normal(rng, tokens, 512)
        first: dict[str, list[Floats]] = {}
        for ops in machines:
            products = [ops.numpy(y) for y in ops.matmul(ops.array(x), *map(ops.weight, tensors))]
            for got, t in zip(products, tensors, strict=True):
                assert_product(got, x, t.decode(), t.info.type.name)
            for got, same in zip(products, first.setdefault(ops.level, products), strict=True):
                np.testing.assert_array_equal(got, same, f"{ops.level} differs with {ops.threads} threads")


@pytest.mark.parametrize("name", WEIGHT_TYPES)
def test_deterministic_matmul(name: str, rng: np.random.Generator) -> None:
    """A row of activations gives the same bits alone and among others, at every level and number of threads."""
    kind, k = TYPES[name], 512
    stored, x = tensor(normal(rng, 300, k), kind), normal(rng, 70, k)
    for level in levels():
        alone = NativeOps(1, level)  # one row is one row, with the switch or without
        want = np.concatenate([alone.numpy(alone.matmul(alone.array(row[None]), alone.weight(stored))[0]) for row in x])
        for threads in (1, 3):
            ops = NativeOps(threads, level, deterministic=True)
            for begin, end in ((0, 70), (3, 5), (17, 40)):
                (got,) = ops.matmul(ops.array(x[begin:end]), ops.weight(stored))
                np.testing.assert_array_equal(ops.numpy(got), want[begin:end], f"{level}, {threads} threads")


@pytest.mark.parametrize("name", WEIGHT_TYPES)
def test_embed(name: str, machines: list[NativeOps], rng: np.random.Generator) -> None:
    kind = TYPES[name]
    for k in lengths(kind):
        table = tensor(normal(rng, 40, k), kind)
        for ids in ([7], [0, 39, 5, 5], [*range(40)] * 5):
            want = ORACLE.embed(ORACLE.weight(table), ids)
            for ops in machines:
                np.testing.assert_allclose(ops.numpy(ops.embed(ops.weight(table), ids)), want, rtol=2e-7)


@pytest.mark.parametrize("cols", [1, 2, 15, 64, 257, 999])
@pytest.mark.parametrize("tokens", [1, 3, 130])
def test_rows(tokens: int, cols: int, machines: list[NativeOps], rng: np.random.Generator) -> None:
    x, y = normal(rng, tokens, cols), 20 * normal(rng, tokens, cols)
    y.flat[:5] = [0, 100, -100, 3e4, -3e4][: y.size]
    weight = tensor(normal(rng, cols))
    rows = [tokens - 1, 0, 0]
    for ops in machines:
        a, b = ops.array(x), ops.array(y)
        norm = ops.numpy(ops.rms_norm(a, ops.weight(weight), 1e-5))
        np.testing.assert_allclose(norm, ORACLE.rms_norm(x, weight.decode(), 1e-5), rtol=3e-6)
        np.testing.assert_allclose(ops.numpy(ops.swiglu(b, a)), ORACLE.swiglu(y, x), rtol=2e-6, atol=1e-30)
        np.testing.assert_array_equal(ops.numpy(ops.add(a, b)), x + y)
        np.testing.assert_array_equal(ops.numpy(ops.take(a, rows)), x[rows])


def sequence_steps(page: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(sequences, their new tokens) step by step: prompts, single tokens, several at once, over page borders."""
    return [
        ((0, 1), (5, page + 1)),
        ((0, 1, 2), (1, 1, 70)),
        ((1,), (3,)),
        ((2, 0), (1, 2 * page)),
        ((0,), (540,)),
        ((0, 1, 2), (1, 2, 1)),
        ((0,), (9,)),
    ]


CASES = [
    *(
        (dim, group, "f16", 64)
        for dim, group in ((2, 1), (2, 3), (20, 2), (20, 8), (64, 1), (64, 8), (80, 3), (128, 2))
    ),
    *((dim, 4, "f32", 16) for dim in (20, 48, 128)),
    *((dim, group, "q8_0", 16) for dim, group in ((64, 1), (64, 3), (128, 4), (32, 8))),
]


def assert_attention(got: Floats, want: Floats, kind: str, level: str) -> None:
    """Attention is right to floats, or to what 16-bit integers cost prompts over a compressed cache at some levels.

    Rounding queries, keys, values and weights to halves instead would cost these numbers 7e-4 (root mean square) and
    1e-2 (at worst); see test_integers_are_finer_than_halves.
    """
    if kind == "f32" or level != "avx512":
        np.testing.assert_allclose(got, want, atol=5e-5, err_msg=level)
        return
    np.testing.assert_allclose(got, want, atol=5e-3, err_msg=level)
    assert np.sqrt(np.mean((got - want) ** 2)) < 5e-4, level


@pytest.mark.parametrize(("head_dim", "group", "kind", "page"), CASES)
def test_attention_with_a_store(
    head_dim: int, group: int, kind: Any, page: int, machines: list[NativeOps], rng: np.random.Generator
) -> None:
    kv_heads, layer, pages = 2, 1, 1024 // page
    shape = StoreShape(2, kv_heads, head_dim, pages, page, kind)
    inv_freq = 10_000.0 ** -(np.arange(0, head_dim, 2) / head_dim)
    owned = np.array_split(rng.permutation(pages), [704 // page, 832 // page])  # pages of three sequences
    stores = {ops: ops.store(shape) for ops in machines}
    memory, held = ORACLE.store(shape), [0, 0, 0]
    for sequences, new in sequence_steps(page):
        spans = [Span(held[s], n, tuple(map(int, owned[s]))) for s, n in zip(sequences, new, strict=True)]
        tokens = sum(new)
        q, k = 2 * normal(rng, tokens, kv_heads * group * head_dim), 2 * normal(rng, tokens, kv_heads * head_dim)
        v = normal(rng, tokens, kv_heads * head_dim)
        step = ORACLE.begin(memory, spans, inv_freq)
        turned, want = ORACLE.rope(q, step), ORACLE.attention(q, k, v, step, layer)
        first: Floats | None = None
        for ops, store in stores.items():
            native = ops.begin(store, spans, inv_freq)
            np.testing.assert_allclose(ops.numpy(ops.rope(ops.array(q), native)), turned, atol=2e-6)
            got = ops.numpy(ops.attention(ops.array(q), ops.array(k), ops.array(v), native, layer))
            assert_attention(got, want, kind, ops.level)
            if ops.threads == 1:
                first = got
            np.testing.assert_array_equal(got, first, f"{ops.level} differs with {ops.threads} threads")
        for s, n in zip(sequences, new, strict=True):
            held[s] += n


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_a_copied_page_reads_as_its_source(kind: Any, machines: list[NativeOps], rng: np.random.Generator) -> None:
    """A sequence whose second page is a copied beginning, and its own from there, sees what it would without a copy."""
    page, tokens, shape = 8, 16, StoreShape(2, 2, 32, 4, 8, kind)
    q, k, v = normal(rng, tokens, 64), normal(rng, tokens, 64), normal(rng, tokens, 64)
    for ops in (ORACLE, *machines):
        store, inv_freq = ops.store(shape), np.ones(16)

        def attend(
            span: Span, first: int, ops: Any = ops, store: Any = store, inv_freq: NDArray[np.float64] = inv_freq
        ) -> Floats:
            rows = slice(first, first + span.length)
            parts = [x[rows] if ops is ORACLE else ops.array(x[rows]) for x in (q, k, v)]
            got: Floats = ops.numpy(ops.attention(*parts, ops.begin(store, [span], inv_freq), 1))
            return got.copy()

        attend(Span(0, 13, (3, 0)), 0)
        ops.copy(store, 0, 2, 5)
        attend(Span(13, 2, (3, 0)), 0)  # the first sequence goes on, in its own page
        got = attend(Span(page + 5, 3, (3, 2)), page + 5)
        fresh = ops.store(shape)
        attend(Span(0, 13, (0, 1)), 0, store=fresh)
        np.testing.assert_array_equal(got, attend(Span(13, 3, (0, 1)), 13, store=fresh))


def attention_of_halves(q: Floats, k: Floats, v: Floats) -> NDArray[np.float64]:
    """One head, everything rounded to halves and nothing else."""
    q, k, v = (x.astype(np.float16).astype(np.float64) for x in (q, k, v))
    scores = np.where(np.tri(len(q), dtype=bool), q @ k.T / np.sqrt(q.shape[1]), -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float16).astype(np.float64) @ v


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("outliers", ["none", "channels", "values", "tokens", "mean", "sink"])
def test_integers_are_finer_than_halves(
    outliers: str, head_dim: int, machines: list[NativeOps], rng: np.random.Generator
) -> None:
    """Prompts over a cache of halves lose less than by computing with halves, whatever stands out."""
    tokens = 500
    q, k, v = (normal(rng, tokens, head_dim) for _ in "qkv")
    loud = np.exp(1.2 * normal(rng, head_dim))
    if outliers == "channels":
        q, k = q * loud, k * loud
    if outliers == "values":
        v = v * loud
    if outliers == "tokens":
        v = v * np.exp(1.2 * normal(rng, tokens, 1))
    if outliers == "mean":
        q[:, ::32] += 5
        k[:, ::32] += 15
    if outliers == "sink":
        q[:, 0], k[0], v[0] = 0.35 * np.sqrt(head_dim), 30 * np.eye(head_dim)[0], 0.01
    inv_freq = np.ones(head_dim // 2)
    want = ORACLE.attention(q, k, v, ORACLE.begin(None, [Span(0, tokens)], inv_freq), 0)
    loss = np.sqrt(np.mean((attention_of_halves(q, k, v) - want) ** 2))
    for ops in machines:
        store = ops.store(StoreShape(1, 1, head_dim, 1, tokens, "f16"))
        step = ops.begin(store, [Span(0, tokens, (0,))], inv_freq)
        got = ops.numpy(ops.attention(ops.array(q), ops.array(k), ops.array(v), step, 0))
        assert np.sqrt(np.mean((got - want) ** 2)) < loss, ops.level


PIECES = [(20, 3, "f16"), (64, 4, "f16"), (48, 1, "f32"), (64, 8, "q8_0")]


@pytest.mark.parametrize(("head_dim", "group", "kind"), PIECES)
def test_deterministic_attention(
    head_dim: int, group: int, kind: Any, machines: list[NativeOps], rng: np.random.Generator
) -> None:
    """A sequence gives the same bits whole, in pieces, and beside others."""
    tokens, kv_heads, page = 700, 2, 64
    shape, inv_freq = StoreShape(1, kv_heads, head_dim, 30, page, kind), np.ones(head_dim // 2)
    q, k, v = (normal(rng, tokens, n * kv_heads * head_dim) for n in (group, 1, 1))
    pages, others = tuple(map(int, rng.permutation(12))), tuple(range(12, 30))
    for level in {ops.level for ops in machines}:
        whole: Floats | None = None
        for threads, pieces in ((1, [tokens]), (3, [tokens]), (2, [1, 1, 7, 64, 5, 300, 2, 9, 230, 20, 60, 1])):
            ops = NativeOps(threads, level, deterministic=True)
            store, start, rows = ops.store(shape), 0, []
            for i, length in enumerate(pieces):
                beside = i % 3 * 40  # tokens of another sequence
                spans = [Span(start, length, pages)] + ([Span(17 * i, beside, others)] if beside else [])
                these = [np.concatenate([x[start : start + length], x[:beside]]) for x in (q, k, v)]
                got = ops.attention(*map(ops.array, these), ops.begin(store, spans, inv_freq), 0)
                rows.append(ops.numpy(got)[:length].copy())
                start += length
            together = np.concatenate(rows)
            whole = together if whole is None else whole
            np.testing.assert_array_equal(together, whole, f"{level}, {threads} threads")


@pytest.mark.parametrize(("head_dim", "group"), [(2, 3), (20, 1), (64, 4), (80, 8), (128, 2)])
def test_attention_without_a_store(
    head_dim: int, group: int, machines: list[NativeOps], rng: np.random.Generator
) -> None:
    kv_heads, inv_freq = 3, np.ones(head_dim // 2)
    spans = [Span(0, 1), Span(0, 130), Span(7, 65)]
    q, k = 2 * normal(rng, 196, kv_heads * group * head_dim), 2 * normal(rng, 196, kv_heads * head_dim)
    v = normal(rng, 196, kv_heads * head_dim)
    # a span without a past starts from its own first token, wherever it stands
    want = ORACLE.attention(q, k, v, ORACLE.begin(None, [Span(0, s.length) for s in spans], inv_freq), 0)
    for ops in machines:
        step = ops.begin(None, spans, inv_freq)
        got = ops.numpy(ops.attention(ops.array(q), ops.array(k), ops.array(v), step, 0))
        np.testing.assert_allclose(got, want, atol=5e-5, err_msg=ops.level)


def test_attention_of_extreme_scores(machines: list[NativeOps]) -> None:
    """A score far above all others takes all the weight, one far below none, wherever it stands."""
    tokens, head_dim = 600, 64
    k, v = np.zeros((tokens, head_dim), np.float32), np.zeros((tokens, head_dim), np.float32)
    v[:, 0] = np.arange(tokens)
    q = np.full((tokens, head_dim), 10, np.float32)
    k[100], k[300], k[500] = -30, 30, 60
    for ops in machines:
        step = ops.begin(None, [Span(0, tokens)], np.ones(head_dim // 2))
        got = ops.numpy(ops.attention(ops.array(q), ops.array(k), ops.array(v), step, 0))[:, 0]
        np.testing.assert_allclose(got[:100], np.arange(100) / 2, rtol=1e-5)
        np.testing.assert_allclose(got[100:300], [(t * (t + 1) / 2 - 100) / t for t in range(100, 300)], rtol=1e-5)
        np.testing.assert_array_equal(got[300:500], 300)
        np.testing.assert_array_equal(got[500:], 500)


def test_halves_are_kept_as_numpy_rounds_them(machines: list[NativeOps], rng: np.random.Generator) -> None:
    """Attention over one token returns its value as the cache kept it: the rounding can be compared bit for bit."""
    values = np.concatenate([normal(rng, 300, 1).ravel() * 10.0 ** rng.integers(-9, 5, 300), [0, -0.0, 65504, 65519.9]])
    values = np.concatenate([values, np.ldexp(1, np.arange(-27, 15)), np.ldexp(1.5, np.arange(-27, 15))])
    v = values.astype(np.float32)[: len(values) // 2 * 2][None]
    shape = StoreShape(1, 1, v.shape[1], 1, 1, "f16")
    for ops in machines:
        zeros = ops.array(np.zeros_like(v))
        step = ops.begin(ops.store(shape), [Span(0, 1, (0,))], np.ones(v.shape[1] // 2))
        got = ops.numpy(ops.attention(zeros, zeros, ops.array(v), step, 0))
        np.testing.assert_array_equal(got, v.astype(np.float16).astype(np.float32), ops.level)
