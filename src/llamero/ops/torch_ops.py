"""The operations in torch: training with gradients, and inference on a GPU.

Stored matrices are decoded to one floating type (`dtype`), in which activations run as well; a trainer's own weights
may be wider and are cast where they are used. Norms, rotations and softmax run in float32. Without a store, spans of
like length are attended as a batch. On a CPU most of it is done by our own kernels (ops/torch_cpu.py); what is written
out here is for GPUs, and what those kernels are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch.nn import functional

from llamero.errors import DeviceError, SettingError
from llamero.formats.tensor import Tensor
from llamero.ops.grouping import Groups
from llamero.ops.protocol import Span, StoreShape
from llamero.ops.torch_cpu import (
    Attention,
    CrossEntropy,
    Products,
    RmsNorm,
    Rope,
    SwiGlu,
    one,
    several,
    takes,
    trainer_here,
)

_KINDS = {"f32": torch.float32, "f16": torch.float16}


@dataclass(frozen=True)
class TorchStore:
    """Keys and values: (layers, pages, page, kv_heads, head_dim) each."""

    shape: StoreShape
    keys: TorchTensor
    values: TorchTensor


@dataclass(frozen=True)
class TorchStep:
    """Rotations of every new token, and whose they are."""

    store: TorchStore | None
    spans: tuple[Span, ...]
    groups: tuple[tuple[int, int], ...]  # without a store: rows and length of each batch of spans
    places: TorchTensor | None  # where each token lies in the batches; None where they are one, without gaps
    cos: TorchTensor  # (tokens, 1, head_dim / 2) float32
    sin: TorchTensor  # (tokens, 1, head_dim / 2) float32
    table: TorchTensor | None = (
        None  # for our kernels: (tokens, 2 * head_dim), cos c0 c0 c1 c1 .., sin -s0 s0 -s1 s1 ..
    )


class TorchOps:
    """Ops over torch tensors on one device; a weight is a tensor of any floating type.

    dtype: None is bfloat16 on a GPU, whose memory it halves, and float32 on a CPU. kernels: whether to use our own on a
    CPU. Raises DeviceError for a device that is not here.
    """

    name = "torch"

    def __init__(self, device: str = "cpu", dtype: torch.dtype | None = None, *, kernels: bool = True) -> None:
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise DeviceError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.bfloat16)
        self._trainer = trainer_here() if kernels and self.device.type == "cpu" else None

    def weight(self, tensor: Tensor) -> TorchTensor:
        array = torch.from_numpy(tensor.decode())
        return array.to(self.device, self.dtype if array.ndim == 2 else torch.float32)

    def store(self, shape: StoreShape) -> TorchStore:
        if shape.kind not in _KINDS:
            raise SettingError(f"cache kind {shape.kind!r} is not available on {self.device}; choose f16 or f32")
        size = (shape.layers, shape.pages, shape.page, shape.kv_heads, shape.head_dim)
        keys, values = (torch.zeros(size, dtype=_KINDS[shape.kind], device=self.device) for _ in range(2))
        return TorchStore(shape, keys, values)

    def copy(self, store: TorchStore, source: int, target: int, tokens: int) -> None:
        for memory in (store.keys, store.values):
            memory[:, target, :tokens] = memory[:, source, :tokens]

    def begin(self, store: TorchStore | None, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> TorchStep:
        positions = np.concatenate([np.arange(span.start, span.start + span.length) for span in spans])
        known, index = np.unique(positions, return_inverse=True)  # sequences side by side share theirs
        angles = torch.from_numpy(known[:, None] * inv_freq).unsqueeze(1)  # (positions, 1, head_dim / 2)
        cos, sin = angles.cos().float(), angles.sin().float()
        chosen = torch.from_numpy(index)
        table = _table(cos, sin)[chosen] if store is None and self._trainer else None
        cos, sin = cos[chosen].to(self.device), sin[chosen].to(self.device)
        groups = Groups.of([span.length for span in spans] if store is None else [])
        batched = len(groups.shapes) > 1 or groups.size > len(positions)
        places = torch.from_numpy(groups.places).to(self.device) if batched else None
        return TorchStep(store, tuple(spans), groups.shapes, places, cos, sin, table)

    def embed(self, table: TorchTensor, ids: Sequence[int] | TorchTensor) -> TorchTensor:
        return functional.embedding(torch.as_tensor(ids, dtype=torch.long, device=self.device), table).to(self.dtype)

    def rms_norm(self, x: TorchTensor, weight: TorchTensor, eps: float) -> TorchTensor:
        if self._trainer and takes(x) and takes(weight):
            return one(RmsNorm, self._trainer, x, weight, eps)
        return functional.rms_norm(x.float(), (x.shape[1],), eps=eps).to(x.dtype) * weight.to(x.dtype)

    def matmul(self, x: TorchTensor, *weights: TorchTensor) -> tuple[TorchTensor, ...]:
        if self._trainer and all(takes(each) for each in (x, *weights)):
            return several(Products, x, *weights)
        return tuple(functional.linear(x, weight.to(x.dtype)) for weight in weights)

    def rope(self, x: TorchTensor, step: TorchStep) -> TorchTensor:
        if self._trainer and step.table is not None and takes(x):
            return one(Rope, self._trainer, x, step.table)
        pairs = x.float().view(x.shape[0], -1, step.cos.shape[2], 2)  # (tokens, heads, head_dim / 2, 2)
        a, b = pairs.unbind(-1)
        rotated = torch.stack([a * step.cos - b * step.sin, a * step.sin + b * step.cos], dim=-1)
        return rotated.view_as(x).to(x.dtype)

    def attention(self, q: TorchTensor, k: TorchTensor, v: TorchTensor, step: TorchStep, layer: int) -> TorchTensor:
        head_dim = 2 * step.cos.shape[2]
        if self._trainer and step.store is None and takes(q):
            lengths = [span.length for span in step.spans]
            return one(Attention, self._trainer, q, k, v, lengths, head_dim)
        q, k, v = (x.view(x.shape[0], -1, head_dim) for x in (q, k, v))  # (tokens, heads or kv_heads, head_dim)
        if step.store is None:
            return _attend_groups(q, k, v, step).reshape(q.shape[0], -1)
        lengths, outputs = [span.length for span in step.spans], []
        for span, one_q, one_k, one_v in zip(step.spans, *(torch.split(x, lengths) for x in (q, k, v)), strict=True):
            one_k, one_v = _remember(step.store, layer, span, one_k, one_v)
            outputs.append(attend(one_q[None], one_k[None], one_v[None])[0])
        return torch.cat(outputs).reshape(q.shape[0], -1)

    def swiglu(self, gate: TorchTensor, up: TorchTensor) -> TorchTensor:
        if self._trainer and takes(gate) and takes(up):
            return one(SwiGlu, self._trainer, gate, up)
        return functional.silu(gate) * up

    def add(self, x: TorchTensor, y: TorchTensor) -> TorchTensor:
        return x + y

    def take(self, x: TorchTensor, rows: Sequence[int]) -> TorchTensor:
        return x[torch.as_tensor(rows, dtype=torch.long, device=self.device)]

    def add_low_rank(
        self,
        x: TorchTensor,
        products: Sequence[TorchTensor],
        changes: Sequence[tuple[int, Sequence[int], TorchTensor, TorchTensor]],
    ) -> None:
        for place, rows, a, b in changes:
            index = torch.as_tensor(rows, dtype=torch.long, device=self.device)
            products[place].index_add_(0, index, x[index] @ a.T @ b)

    def own(self, x: TorchTensor) -> TorchTensor:
        """Of something that each token of a step has (tokens, ...), what this process works on: here, all."""
        return x

    def cross_entropy(
        self, logits: TorchTensor, targets: TorchTensor, weights: TorchTensor, z_loss: float = 0.0
    ) -> tuple[TorchTensor, TorchTensor]:
        """The sum of weights * (losses + z_loss * n * n), to be differentiated, and the losses (rows,), both float32.

        n is the logarithm of the softmax's sum, in nats as the losses are. logits (rows, vocab), which are used up;
        targets (rows,) int64; weights (rows,) float32. Raises ValueError for a target beyond the vocabulary.
        """
        if self._trainer and takes(logits):
            learn = logits.requires_grad and torch.is_grad_enabled()
            loss, losses = several(CrossEntropy, self._trainer, logits, targets, weights, z_loss, learn)
            return loss, losses
        logits = logits.float()
        losses = functional.cross_entropy(logits, targets, reduction="none")
        learnt = losses + z_loss * logits.logsumexp(dim=1).square() if z_loss else losses
        return learnt @ weights, losses.detach()

    def numpy(self, x: TorchTensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = x.detach().float().cpu().numpy()
        return array


def _table(cos: TorchTensor, sin: TorchTensor) -> TorchTensor:
    """Rotations (positions, 1, head_dim / 2) as a row of factors for a pair's own values, then for swapped ones."""
    own, swapped = torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)  # (positions, 2, head_dim / 2)
    return torch.stack([own, swapped], dim=1).transpose(2, 3).flatten(1).contiguous()


def _remember(
    store: TorchStore, layer: int, span: Span, k: TorchTensor, v: TorchTensor
) -> tuple[TorchTensor, TorchTensor]:
    """Write the span's new keys and values; return all of its sequence (start + length, kv_heads, head_dim)."""
    page = store.shape.page
    positions = torch.arange(span.start + span.length, device=store.keys.device)
    pages = torch.tensor(span.pages, device=store.keys.device)[positions // page]
    places = positions % page
    for memory, rows in ((store.keys, k), (store.values, v)):
        memory[layer, pages[span.start :], places[span.start :]] = rows.to(memory.dtype)
    return store.keys[layer, pages, places].to(k.dtype), store.values[layer, pages, places].to(v.dtype)


def _attend_groups(q: TorchTensor, k: TorchTensor, v: TorchTensor, step: TorchStep) -> TorchTensor:
    """Causal attention within each span, a call for each group: (tokens, heads, head_dim).

    A gap follows its span, so that causal attention never looks into it.
    """
    if step.places is not None:  # copied by index, whose gradient gathers: the same bits every time, on a GPU too
        size = sum(rows * length for rows, length in step.groups)
        q, k, v = (x.new_zeros(size, *x.shape[1:]).index_copy(0, step.places, x) for x in (q, k, v))
    outputs = []
    parts = (torch.split(x, [rows * length for rows, length in step.groups]) for x in (q, k, v))
    for shape, *group in zip(step.groups, *parts, strict=True):
        outputs.append(attend(*(x.unflatten(0, shape) for x in group)).flatten(0, 1))
    out = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return out if step.places is None else out.index_select(0, step.places)


def attend(q: TorchTensor, k: TorchTensor, v: TorchTensor) -> TorchTensor:
    """Causal attention of the last tokens of each sequence: (batch, length, heads, head_dim)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (batch, heads, length, head_dim)
    new, total = q.shape[2], k.shape[2]
    mask = None
    if new != total:
        mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
    grouped = q.shape[1] != k.shape[1]
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
    return out.transpose(1, 2)
