"""The next-token loss of pretraining, and its gradients, through the one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from llamero.model.llama import head, hidden
from llamero.model.weights import Weights
from llamero.ops.torch_ops import TorchOps
from llamero.training.batch import Batch


class NextToken:
    """Cross-entropy of each counted target in float32, summed, in nats.

    The head is run and differentiated over `rows` tokens at a time, so that logits (rows, vocab) never exist for a
    whole batch: they would be the largest arrays of a step by far.
    """

    def __init__(self, ops: TorchOps, weights: Weights[Tensor], rows: int = 1024) -> None:
        self.ops, self.weights, self.rows = ops, weights, rows

    def accumulate(self, batch: Batch, divisor: float) -> float:
        """Add the gradients of (sum of losses / divisor) to the parameters; return the sum of losses."""
        x = self._hidden(batch)  # (tokens, dim)
        pieces = [piece.detach().requires_grad_() for piece in torch.split(x, self.rows)]
        total = 0.0
        for piece, targets, counts in zip(pieces, *self._targets(batch), strict=True):
            loss = self._loss(piece, targets, counts)
            torch.autograd.backward(loss / divisor)
            total += loss.item()
        torch.autograd.backward(x, torch.cat([piece.grad for piece in pieces if piece.grad is not None]))
        return total

    def measure(self, batch: Batch) -> float:
        """The sum of losses alone, without gradients."""
        with torch.no_grad():
            pieces = torch.split(self._hidden(batch), self.rows)
            return sum(self._loss(*piece).item() for piece in zip(pieces, *self._targets(batch), strict=True))

    def _hidden(self, batch: Batch) -> Tensor:
        ids = batch.inputs.reshape(-1).tolist()
        return hidden(self.ops, self.weights, None, ids, batch.spans)

    def _targets(self, batch: Batch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        targets = torch.from_numpy(batch.targets.reshape(-1)).to(self.ops.device)
        counts = torch.from_numpy(batch.counts.reshape(-1)).to(self.ops.device)
        return torch.split(targets, self.rows), torch.split(counts, self.rows)

    def _loss(self, x: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        logits = head(self.ops, self.weights, x).float()  # (rows, vocab)
        return functional.cross_entropy(logits, targets, reduction="none") @ counts
