"""The forward pass of a Llama: the only one in the house.

It serves training (torch_ops), the GPU (torch_ops), the CPU (native_ops) and the tests (numpy_ops). A step takes new
tokens of one or more sequences, one after another in one flat list; `spans` say whose they are and where they stand.
Legend: tokens, all new tokens of the step; q, heads * head_dim; kv, kv_heads * head_dim; ffn, ffn_dim.
This file knows neither text nor files, and never advances a cache: its owner does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llamero.model.config import Config
from llamero.model.weights import Layer, Weights
from llamero.ops.protocol import A, Ops, Span, Step, Store, W

Block: TypeAlias = Callable[[Ops[A, W], Config, Layer[W], A, Step, int], A]


def forward(
    ops: Ops[A, W],
    weights: Weights[W],
    store: Store | None,
    ids: Sequence[int],
    spans: Sequence[Span],
    rows: Sequence[int] | None = None,
) -> A:
    """Logits (rows, vocab) of the next token after each of `rows`, or after every token.

    ids: the new tokens of all spans in order. store: their past, which is extended; None in training, where a span
    sees itself only. rows: indices into `ids` whose logits are wanted.
    """
    x = hidden(ops, weights, store, ids, spans)
    return head(ops, weights, x if rows is None else ops.take(x, rows))


def block(ops: Ops[A, W], config: Config, layer: Layer[W], x: A, step: Step, index: int) -> A:
    """One layer: attention, then feed-forward, each normed before and added after (LLaMA, section 2.2)."""
    x = ops.add(x, attention(ops, config, layer, x, step, index))
    return ops.add(x, feed_forward(ops, config, layer, x))


def hidden(
    ops: Ops[A, W],
    weights: Weights[W],
    store: Store | None,
    ids: Sequence[int],
    spans: Sequence[Span],
    run: Block[A, W] = block,
) -> A:
    """The residual stream (tokens, dim) after the last layer, before the final norm.

    run: what computes a layer: `block`, or a trainer's way around it.
    """
    step = ops.begin(store, spans, weights.inv_freq)
    x = ops.embed(weights.embedding, ids)  # (tokens, dim)
    for index, layer in enumerate(weights.layers):
        x = run(ops, weights.config, layer, x, step, index)
    return x


def attention(ops: Ops[A, W], config: Config, layer: Layer[W], x: A, step: Step, index: int) -> A:
    """Grouped-query attention with rotary positions -> (tokens, dim)."""
    x = ops.rms_norm(x, layer.attention_norm, config.norm_eps)  # (tokens, dim)
    q, k, v = ops.matmul(x, layer.wq, layer.wk, layer.wv)  # (tokens, q), (tokens, kv), (tokens, kv)
    q, k = ops.rope(q, step), ops.rope(k, step)
    x = ops.attention(q, k, v, step, index)  # (tokens, q)
    return ops.matmul(x, layer.wo)[0]


def feed_forward(ops: Ops[A, W], config: Config, layer: Layer[W], x: A) -> A:
    """SwiGLU -> (tokens, dim)."""
    x = ops.rms_norm(x, layer.ffn_norm, config.norm_eps)  # (tokens, dim)
    gate, up = ops.matmul(x, layer.w1, layer.w3)  # (tokens, ffn) each
    return ops.matmul(ops.swiglu(gate, up), layer.w2)[0]


def head(ops: Ops[A, W], weights: Weights[W], x: A) -> A:
    """The residual stream (rows, dim) -> logits (rows, vocab)."""
    x = ops.rms_norm(x, weights.norm, weights.config.norm_eps)
    return ops.matmul(x, weights.output)[0]
