"""The next-token loss of pretraining, and its gradients, through the one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from llamero.errors import SettingError
from llamero.model.config import Config
from llamero.model.llama import block, head, hidden
from llamero.model.weights import Layer, Weights
from llamero.ops.protocol import Ops
from llamero.ops.torch_ops import TorchOps
from llamero.training.allocator import keep_freed_memory
from llamero.training.data.batch import Batch

_LOGITS = 1 << 28  # bytes of logits at once
_FEWEST = 256  # tokens whose logits exist at once: fewer would not pay
Stream: TypeAlias = Callable[..., Tensor]
"""What is called as `model.llama.hidden` is, and gives the same."""


class NextToken:
    """Cross-entropy of each counted target in float32, summed, in nats.

    The head is run and differentiated over `rows` tokens at a time, so that logits (rows, vocab) never exist for a
    whole batch: they would be the largest arrays of a step by far. By default they take up to a quarter of a gigabyte.

    recompute: of every so many layers, one keeps only its input and is computed again when gradients reach it: 0, none;
    1, every layer, which takes the least memory and a third more arithmetic; 2, every second. z_loss: weight of the
    squared logarithm of the softmax's sum, which keeps logits near zero (Chowdhery et al. 2022, section 5); it is not
    part of the loss that is told. stream: the forward pass up to the last layer, where it is not simply `hidden` (see
    sharded.py). Raises SettingError.
    """

    def __init__(
        self,
        ops: TorchOps,
        weights: Weights[Tensor],
        rows: int | None = None,
        recompute: int = 0,
        z_loss: float = 0.0,
        stream: Stream = hidden,
    ) -> None:
        if rows is None:
            rows = max(_FEWEST, _LOGITS // (weights.config.vocab * ops.dtype.itemsize))
        if rows < 1 or recompute < 0 or z_loss < 0:
            raise SettingError(
                f"rows ({rows}) must be positive, recompute ({recompute}), z_loss ({z_loss}) not negative"
            )
        self.ops, self.weights, self.stream = ops, weights, stream
        self.rows, self.recompute, self.z_loss = rows, recompute, z_loss
        if ops.device.type == "cpu":
            keep_freed_memory()

    def accumulate(self, batch: Batch, divisor: float) -> float:
        """Add the gradients of (sum of losses / divisor) to the parameters; return the sum of losses."""
        x = self._hidden(batch)  # (tokens, dim)
        pieces = [piece.detach().requires_grad_() for piece in torch.split(x, self.rows)]
        total = 0.0
        for piece, targets, counts in zip(pieces, *self._targets(batch), strict=True):
            loss, losses = self._loss(piece, targets, counts / divisor)
            torch.autograd.backward(loss)
            total += _sum(losses, counts)
        torch.autograd.backward(x, torch.cat([piece.grad for piece in pieces if piece.grad is not None]))
        return total

    def measure(self, batch: Batch) -> float:
        """The sum of losses alone, without gradients."""
        with torch.no_grad():
            pieces = torch.split(self._hidden(batch), self.rows)
            parts = zip(pieces, *self._targets(batch), strict=True)
            return sum(_sum(self._loss(*part)[1], part[2]) for part in parts)

    def _hidden(self, batch: Batch) -> Tensor:
        ids = batch.inputs.reshape(-1).tolist()
        return self.stream(self.ops, self.weights, None, ids, batch.spans, self._block)

    def _block(self, ops: Ops[Tensor, Tensor], config: Config, layer: Layer[Tensor], x: Tensor, *step: Any) -> Tensor:
        """A layer of the forward pass, kept or to be computed again."""
        index = step[-1]
        if not self.recompute or index % self.recompute or not torch.is_grad_enabled():
            return block(ops, config, layer, x, *step)
        again: Tensor = checkpoint(block, ops, config, layer, x, *step, use_reentrant=False, preserve_rng_state=False)
        return again

    def _targets(self, batch: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        targets, counts = (torch.from_numpy(x.reshape(-1)).to(self.ops.device) for x in (batch.targets, batch.counts))
        targets, counts = self.ops.own(targets), self.ops.own(counts)
        return torch.split(targets, self.rows), torch.split(counts, self.rows)

    def _loss(self, x: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What is differentiated, the sum of weights * (losses and z-loss), and the losses."""
        logits = head(self.ops, self.weights, x)  # (rows, vocab)
        return self.ops.cross_entropy(logits, targets, weights, self.z_loss)


def _sum(losses: Tensor, counts: Tensor) -> float:
    """The sum of the losses that count, in float64: the same for every split."""
    return (losses.double() @ counts.double()).item()
