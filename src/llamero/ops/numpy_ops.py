"""The operations in plain numpy: slow and obviously right. Every other implementation is tested against this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamero.formats.tensor import Tensor
from llamero.ops.protocol import Span, StoreShape

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class NumpyStore:
    """Keys and values as written: (layers, pages, page, kv_heads, head_dim) each, rounded to the cache kind."""

    shape: StoreShape
    keys: Array
    values: Array


@dataclass(frozen=True)
class NumpyStep:
    """Rotations of every new token, and whose they are."""

    store: NumpyStore | None
    spans: tuple[Span, ...]
    cos: NDArray[np.float64]  # (tokens, head_dim / 2)
    sin: NDArray[np.float64]  # (tokens, head_dim / 2)


class NumpyOps:
    """Ops over float32 numpy arrays; a weight is a decoded matrix or vector."""

    name = "numpy"

    def weight(self, tensor: Tensor) -> Array:
        return tensor.decode()

    def store(self, shape: StoreShape) -> NumpyStore:
        size = (shape.layers, shape.pages, shape.page, shape.kv_heads, shape.head_dim)
        return NumpyStore(shape, np.zeros(size, np.float32), np.zeros(size, np.float32))

    def copy(self, store: NumpyStore, source: int, target: int, tokens: int) -> None:
        for memory in (store.keys, store.values):
            memory[:, target, :tokens] = memory[:, source, :tokens]

    def begin(self, store: NumpyStore | None, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> NumpyStep:
        positions = np.concatenate([np.arange(span.start, span.start + span.length) for span in spans])
        angles = positions[:, None] * inv_freq  # (tokens, head_dim / 2)
        return NumpyStep(store, tuple(spans), np.cos(angles), np.sin(angles))

    def embed(self, table: Array, ids: Sequence[int]) -> Array:
        rows: Array = table[np.asarray(ids, np.int64)]
        return rows

    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        mean = np.mean(x * x, axis=1, keepdims=True)  # (tokens, 1)
        normed: Array = x / np.sqrt(mean + np.float32(eps)) * weight
        return normed

    def matmul(self, x: Array, *weights: Array) -> tuple[Array, ...]:
        return tuple(x @ weight.T for weight in weights)

    def rope(self, x: Array, step: NumpyStep) -> Array:
        pairs = x.reshape(len(x), -1, step.cos.shape[1], 2)  # (tokens, heads, head_dim / 2, 2)
        a, b = pairs[..., 0], pairs[..., 1]
        cos, sin = step.cos[:, None], step.sin[:, None]
        return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape).astype(np.float32)

    def attention(self, q: Array, k: Array, v: Array, step: NumpyStep, layer: int) -> Array:
        head_dim = 2 * step.cos.shape[1]
        q, k, v = (x.reshape(len(x), -1, head_dim) for x in (q, k, v))  # (tokens, heads or kv_heads, head_dim)
        out, first = np.empty_like(q), 0
        for span in step.spans:
            new = slice(first, first + span.length)
            keys, values = k[new], v[new]
            if step.store is not None:
                keys, values = _remember(step.store, layer, span, keys, values)
            out[new] = _attend(q[new], keys, values, span.start)
            first += span.length
        return out.reshape(len(out), -1)

    def swiglu(self, gate: Array, up: Array) -> Array:
        # exp(-|x|) never overflows
        small = np.exp(-np.abs(gate))
        return gate * np.where(gate >= 0, 1 / (1 + small), small / (1 + small)) * up

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def take(self, x: Array, rows: Sequence[int]) -> Array:
        return x[np.asarray(rows, np.int64)]

    def add_low_rank(
        self, x: Array, products: Sequence[Array], changes: Sequence[tuple[int, Sequence[int], Array, Array]]
    ) -> None:
        for place, rows, a, b in changes:
            products[place][list(rows)] += x[list(rows)] @ a.T @ b

    def numpy(self, x: Array) -> Array:
        return x


def _remember(store: NumpyStore, layer: int, span: Span, k: Array, v: Array) -> tuple[Array, Array]:
    """Write the span's new keys and values; return all of its sequence (start + length, kv_heads, head_dim)."""
    page = store.shape.page
    slots = [(span.pages[p // page], p % page) for p in range(span.start + span.length)]
    pages, places = (np.array(column) for column in zip(*slots, strict=True))
    new = slice(span.start, None)
    for memory, rows in ((store.keys, k), (store.values, v)):
        memory[layer, pages[new], places[new]] = rounded(rows, store.shape.kind)
    return store.keys[layer, pages, places], store.values[layer, pages, places]


def rounded(rows: Array, kind: str) -> Array:
    """What is left of the values after a cache of that kind kept them."""
    if kind == "f32":
        return rows
    if kind == "f16":
        return rows.astype(np.float16).astype(np.float32)
    groups = rows.reshape(-1, 32)
    scale = np.abs(groups).max(axis=1, keepdims=True) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = groups * inverse
    steps = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)  # half away from zero, as Q8_0 rounds
    kept: Array = (steps * scale.astype(np.float16).astype(np.float32)).reshape(rows.shape)
    return kept


def _attend(q: Array, keys: Array, values: Array, start: int) -> Array:
    """Queries at positions start.. over all keys: (length, heads, head_dim)."""
    group = q.shape[1] // keys.shape[1]
    keys, values = (np.repeat(x, group, axis=1) for x in (keys, values))
    scores = np.einsum("qhd,khd->hqk", q, keys) / np.float32(np.sqrt(q.shape[2]))
    position = np.arange(start, start + len(q))
    scores = np.where(position[:, None] >= np.arange(len(keys)), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=2, keepdims=True))
    scores /= scores.sum(axis=2, keepdims=True)
    mixed: Array = np.einsum("hqk,khd->qhd", scores, values)
    return mixed
