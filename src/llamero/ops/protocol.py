"""The dozen operations a Llama needs: their names, shapes and meaning.

Legend: tokens, all new tokens of one step, one sequence after another; dim, the width of the model; heads and
kv_heads, query and key/value heads; head_dim, the width of one head. Activations are two-dimensional, float32 on a
CPU. An implementation chooses its own array type `A` and weight type `W`; a weight is whatever its `matmul` accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from llamero.formats.tensor import Tensor

A = TypeVar("A")
W = TypeVar("W")

CacheKind = Literal["f32", "f16", "q8_0"]
Store: TypeAlias = Any
"""An implementation's memory for keys and values, made by `Ops.store` and opaque to everybody else."""
Step: TypeAlias = Any
"""An implementation's plan of one step (positions, rotations, page tables), made by `Ops.begin`."""


@dataclass(frozen=True)
class Span:
    """One sequence's share of a step.

    start: position of its first new token, which is also how many of its tokens the store already holds.
    length: how many new tokens this step brings.
    pages: the store's pages that hold the sequence, in order; empty when there is no store (training).
    """

    start: int
    length: int
    pages: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoreShape:
    """The size of a store: `pages` pages of `page` tokens in each of `layers` layers."""

    layers: int
    kv_heads: int
    head_dim: int
    pages: int
    page: int
    kind: CacheKind


class Ops(Protocol[A, W]):
    """One implementation of the operations. Instances share nothing; none is changed by another."""

    name: str

    def weight(self, tensor: Tensor) -> W:
        """A stored tensor as a weight: a matrix (out, in), or a vector (1-D, decoded to float)."""
        ...

    def store(self, shape: StoreShape) -> Store:
        """Memory for keys and values; its contents are undefined until written."""
        ...

    def copy(self, store: Store, source: int, target: int, tokens: int) -> None:
        """The keys and values of the first `tokens` tokens of one page, in all layers, into another page."""
        ...

    def begin(self, store: Store | None, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> Step:
        """Plan a step over `spans`. `inv_freq` (head_dim / 2,) are the rotations per position in radians."""
        ...

    def embed(self, table: W, ids: Sequence[int]) -> A:
        """Rows of a (vocab, dim) table -> (tokens, dim)."""
        ...

    def rms_norm(self, x: A, weight: W, eps: float) -> A:
        """x / sqrt(mean(x^2) + eps) * weight over each row, in float32 (Zhang and Sennrich 2019)."""
        ...

    def matmul(self, x: A, *weights: W) -> tuple[A, ...]:
        """x (tokens, in) times each weight (out, in) transposed -> (tokens, out) each.

        Weights that share an input are given together, so that its preparation is done once.
        """
        ...

    def rope(self, x: A, step: Step) -> A:
        """Rotate neighbouring pairs (2i, 2i+1) of each head by position * inv_freq[i] (Su et al. 2021).

        x is (tokens, any number of heads * head_dim).
        """
        ...

    def attention(self, q: A, k: A, v: A, step: Step, layer: int) -> A:
        """Causal attention of each new token over its own sequence -> (tokens, heads * head_dim).

        q (tokens, heads * head_dim), k and v (tokens, kv_heads * head_dim), rotated. Query head h reads key head
        h // (heads / kv_heads); scores are scaled by 1 / sqrt(head_dim) and softmaxed in float32. With a store, the
        new keys and values are written to it first and the past is read from it; without, a span sees itself only.
        """
        ...

    def swiglu(self, gate: A, up: A) -> A:
        """silu(gate) * up (Shazeer 2020)."""
        ...

    def add(self, x: A, y: A) -> A:
        """x + y, the residual stream."""
        ...

    def take(self, x: A, rows: Sequence[int]) -> A:
        """The given rows of x."""
        ...

    def add_low_rank(self, x: A, products: Sequence[A], changes: Sequence[tuple[int, Sequence[int], W, W]]) -> None:
        """Add x[rows] a^T b to the same rows of a product of x, in place, for each (its place, rows, a, b).

        a (rank, in), b (rank, out): the change of a low-rank adapter (Hu et al. 2021). No row of a product is changed
        twice.
        """
        ...

    def numpy(self, x: A) -> NDArray[np.float32]:
        """x as a numpy array; it may share x's memory."""
        ...
