"""A training step's operations on a CPU through our own kernels, each with its gradient.

torch's own do the same in many passes over memory and attend at a seventh of the processor's rate; products stay with
torch. Values are float32 or bfloat16, and everything between two roundings is float32. ops/torch_ops.py holds the same
operations written out in torch: their slow twins.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function

from llamero.ops.native_ops import trainer

if TYPE_CHECKING:
    from llamero.ops.native_ops import Trainer


def trainer_here() -> Trainer | None:
    """Kernels that run on torch's own threads, where its OpenMP is GNU's: two pools would spin beside each other.

    None where the extension was built before it had them.
    """
    fork = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    address = 0 if fork is None else ctypes.cast(fork, ctypes.c_void_p).value or 0
    try:
        return trainer(torch.get_num_threads(), fork=address)
    except AttributeError:
        return None


def takes(x: Tensor) -> bool:
    """Whether the kernels work on such values; parts of a sharded tensor, for one, are torch's own matter."""
    plain = type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu"
    return plain and x.dtype in (torch.float32, torch.bfloat16)


def one(function: type[Function], *arguments: object) -> Tensor:
    """The function's result for these arguments, gradients flowing back."""
    run: Any = function.apply
    result: Tensor = run(*arguments)
    return result


def several(function: type[Function], *arguments: object) -> tuple[Tensor, ...]:
    """The results of a function that has several."""
    run: Any = function.apply
    results: tuple[Tensor, ...] = run(*arguments)
    return results


def _flat(x: Tensor) -> Tensor:
    return x.detach().contiguous()


class RmsNorm(Function):
    """x / sqrt(mean(x^2) + eps) * weight over each row; the weight in float32."""

    @staticmethod
    def forward(ctx: Any, trainer: Trainer, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x, scale = _flat(x), _flat(weight).float()
        y, inverse = torch.empty_like(x), torch.empty(x.shape[0])
        trainer.norm(x, scale, y, inverse, eps)
        ctx.trainer, ctx.kind = trainer, weight.dtype
        ctx.save_for_backward(x, scale, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, inverse = ctx.saved_tensors
        dx, dscale = torch.empty_like(x), torch.empty_like(scale)
        ctx.trainer.norm_back(x, scale, inverse, _flat(dy), dx, dscale)
        return None, dx, dscale.to(ctx.kind), None


class Products(Function):
    """x (rows, in) times each matrix (out, in) transposed, in x's type; x's gradients are added as they are made."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        cast = [weight.to(x.dtype) for weight in weights]
        ctx.kinds = [weight.dtype for weight in weights]
        ctx.save_for_backward(x, *cast)
        return tuple(x @ weight.T for weight in cast)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *cast = ctx.saved_tensors
        dx = None
        if ctx.needs_input_grad[0]:
            dx = gradients[0] @ cast[0]
            for gradient, weight in zip(gradients[1:], cast[1:], strict=True):
                dx.addmm_(gradient, weight)
        wanted = zip(gradients, ctx.kinds, ctx.needs_input_grad[1:], strict=True)
        return dx, *((gradient.T @ x).to(kind) if needed else None for gradient, kind, needed in wanted)


class Rope(Function):
    """Neighbouring pairs of each head turned by their token's angles."""

    @staticmethod
    def forward(ctx: Any, trainer: Trainer, x: Tensor, table: Tensor) -> Tensor:
        ctx.trainer, ctx.table = trainer, table
        x = _flat(x)
        y = torch.empty_like(x)
        trainer.turn(x, y, table, False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        dy = _flat(dy)
        dx = torch.empty_like(dy)
        ctx.trainer.turn(dy, dx, ctx.table, True)
        return None, dx, None


class SwiGlu(Function):
    """silu(gate) * up; nothing in between is kept."""

    @staticmethod
    def forward(ctx: Any, trainer: Trainer, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = _flat(gate), _flat(up)
        y = torch.empty_like(gate)
        trainer.gate(gate, up, y)
        ctx.trainer = trainer
        ctx.save_for_backward(gate, up)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        ctx.trainer.gate_back(gate, up, _flat(dy), dgate, dup)
        return None, dgate, dup


class Attention(Function):
    """Causal attention of each sequence over itself; kept is one number for each token and head."""

    @staticmethod
    def forward(
        ctx: Any, trainer: Trainer, q: Tensor, k: Tensor, v: Tensor, lengths: list[int], head_dim: int
    ) -> Tensor:
        q, k, v = _flat(q), _flat(k), _flat(v)
        out, normaliser = torch.empty_like(q), torch.empty(q.shape[1] // head_dim, q.shape[0])
        trainer.attend(q, k, v, lengths, head_dim, out, normaliser)
        ctx.trainer, ctx.lengths, ctx.head_dim = trainer, lengths, head_dim
        ctx.save_for_backward(q, k, v, normaliser)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, normaliser = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        ctx.trainer.attend_back(q, k, v, ctx.lengths, ctx.head_dim, normaliser, _flat(gradient), dq, dk, dv)
        return None, dq, dk, dv, None, None


class CrossEntropy(Function):
    """What is learnt from, and the losses (rows,) apart. Logits are used up: they become their gradient."""

    @staticmethod
    def forward(
        ctx: Any, trainer: Trainer, logits: Tensor, targets: Tensor, weights: Tensor, z_loss: float, learn: bool
    ) -> tuple[Tensor, Tensor]:
        logits, losses = _flat(logits), torch.empty(logits.shape[0])
        right = logits.gather(1, targets[:, None])[:, 0] if z_loss else None  # before they are used up
        trainer.cross_entropy(logits, targets, weights if learn else None, z_loss, losses)
        ctx.gradient = logits if learn else None
        ctx.mark_non_differentiable(losses)
        learnt = losses if right is None else losses + z_loss * (right + losses).square()
        return learnt @ weights, losses

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if outer.item() != 1.0:
            gradient = gradient * outer
        return None, gradient, None, None, None, None
