"""Tests of ops/torch_cpu.py: every operation and gradient against the same written out in torch, in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from llamero.ops.native_ops import levels
from llamero.ops.native_ops import trainer as kernels
from llamero.ops.protocol import Span
from llamero.ops.torch_cpu import Attention, CrossEntropy, Products, RmsNorm, Rope, SwiGlu, takes, trainer_here
from llamero.ops.torch_ops import TorchOps

NEAR = {torch.float32: 2e-6, torch.bfloat16: 1.2e-2}  # of the largest value
KINDS = pytest.mark.parametrize("dtype", NEAR)


@pytest.fixture(params=[*levels(), "borrowed threads"])
def trainer(request):
    return trainer_here() if request.param == "borrowed threads" else kernels(2, request.param)


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def near(ours, exact, dtype):
    error = (ours.double() - exact).abs().max() / exact.abs().max()
    assert error < NEAR[dtype], f"off by {error:.1e}"


def agree(fast, slow, inputs, dtype):
    """The result and every gradient of `fast`, given tensors of that type, are those of `slow`, given float64."""
    quick = [x.clone().requires_grad_() for x in inputs]
    exact = [x.double().requires_grad_() for x in inputs]
    ours, theirs = fast(*quick), slow(*exact)
    near(ours, theirs, dtype)
    outer = random(*theirs.shape, dtype=dtype, seed=9)
    ours.backward(outer)
    theirs.backward(outer.double())
    for x, y in zip(quick, exact, strict=True):
        assert x.grad.dtype == x.dtype
        near(x.grad, y.grad, dtype)


@KINDS
@pytest.mark.parametrize("shape", [(130, 288), (3, 7), (65, 33)])
def test_rms_norm(trainer, dtype, shape):
    def slow(x, weight):
        return x / (x.square().mean(1, keepdim=True) + 1e-5).sqrt() * weight

    inputs = [random(*shape, dtype=dtype), 1 + 0.2 * random(shape[1], seed=1)]
    agree(lambda x, weight: RmsNorm.apply(trainer, x, weight, 1e-5), slow, inputs, dtype)


@KINDS
@pytest.mark.parametrize("shape", [(70, 48), (3, 5)])
def test_swiglu(trainer, dtype, shape):
    inputs = [3 * random(*shape, dtype=dtype), random(*shape, dtype=dtype, seed=1)]
    agree(lambda gate, up: SwiGlu.apply(trainer, gate, up), lambda g, u: functional.silu(g) * u, inputs, dtype)


@KINDS
@pytest.mark.parametrize("head_dim", [48, 6])
def test_rope(trainer, dtype, head_dim):
    spans = [Span(0, 40), Span(0, 31)]
    inv_freq = 10000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    step = TorchOps().begin(None, spans, inv_freq)
    places = torch.cat([torch.arange(span.length) for span in spans]).double()
    turns = torch.polar(torch.ones(1).double(), places[:, None, None] * torch.from_numpy(inv_freq))

    def slow(x):
        pairs = torch.view_as_complex(x.view(71, 2, -1, 2))
        return torch.view_as_real(pairs * turns).reshape(71, -1)

    agree(lambda x: Rope.apply(trainer, x, step.table), slow, [random(71, 2 * head_dim, dtype=dtype)], dtype)


@KINDS
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim"),
    [([130, 1, 61], 4, 2, 48), ([17], 2, 2, 5), ([64, 60], 3, 1, 64)],
    ids=["grouped", "odd", "one key head"],
)
def test_attention(trainer, dtype, lengths, heads, kv_heads, head_dim):
    def slow(q, k, v):
        outputs = []
        for parts in zip(*(torch.split(x, lengths) for x in (q, k, v)), strict=True):
            q1, k1, v1 = (x.view(len(x), -1, head_dim).transpose(0, 1) for x in parts)
            k1, v1 = (x.repeat_interleave(heads // kv_heads, 0) for x in (k1, v1))
            scores = q1 @ k1.transpose(1, 2) / math.sqrt(head_dim)
            unseen = torch.ones_like(scores, dtype=torch.bool).triu(1)
            weights = scores.masked_fill(unseen, -math.inf).softmax(-1)
            outputs.append((weights @ v1).transpose(0, 1).flatten(1))
        return torch.cat(outputs)

    tokens = sum(lengths)
    widths = (heads * head_dim, kv_heads * head_dim, kv_heads * head_dim)
    inputs = [2 * random(tokens, width, dtype=dtype, seed=i) for i, width in enumerate(widths)]
    agree(lambda q, k, v: Attention.apply(trainer, q, k, v, lengths, head_dim), slow, inputs, dtype)


@KINDS
def test_products_of_one_input(dtype):
    inputs = [random(20, 24, dtype=dtype), *(0.1 * random(rows, 24, seed=rows) for rows in (8, 16, 40))]

    def fast(x, *weights):
        return torch.cat(Products.apply(x, *weights), dim=1)

    agree(fast, lambda x, *weights: torch.cat([x @ w.T for w in weights], dim=1), inputs, dtype)


@KINDS
@pytest.mark.parametrize("z_loss", [0.0, 0.03])
@pytest.mark.parametrize("vocab", [512, 67])
def test_cross_entropy(trainer, dtype, vocab, z_loss):
    logits, targets = 4 * random(50, vocab, dtype=dtype), torch.arange(50) * 7 % vocab
    weights = (torch.arange(50) % 3 > 0).float() / 7
    mine, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    used_up = mine * 1
    loss, losses = CrossEntropy.apply(trainer, used_up, targets, weights, z_loss, True)
    loss.backward()
    theirs = functional.cross_entropy(exact, targets, reduction="none")
    learnt = (theirs + z_loss * exact.logsumexp(dim=1).square()) @ weights.double()
    learnt.backward()
    near(losses, theirs.detach(), torch.float32)
    near(mine.grad, exact.grad, dtype)
    assert loss.item() == pytest.approx(learnt.item(), rel=1e-6)
    assert not mine.grad[0].any()  # its weight is 0


def test_cross_entropy_without_gradients_leaves_the_logits(trainer):
    logits = random(5, 33)
    before = logits.clone()
    CrossEntropy.apply(trainer, logits, torch.arange(5), torch.ones(5), 0.1, False)
    assert torch.equal(logits, before)


def test_what_is_not_finite_stays_so(trainer):
    for broken in (math.nan, math.inf):
        for dtype in NEAR:
            logits = random(2, 70, dtype=dtype)
            logits[1, 40] = broken
            losses = CrossEntropy.apply(trainer, logits, torch.arange(2), torch.ones(2), 0.0, True)[1]
            assert losses.isfinite().tolist() == [True, False]
            q = random(9, 16, dtype=dtype)
            q[4, 3] = broken
            out = Attention.apply(trainer, q, random(9, 16, dtype=dtype), random(9, 16, dtype=dtype), [9], 16)
            assert not out[4].isfinite().all()
            assert not RmsNorm.apply(trainer, q, torch.ones(16), 1e-5)[4].isfinite().all()


@KINDS
def test_the_same_bits_on_any_number_of_threads(dtype):
    q, k, v = (random(150, 64, dtype=dtype, seed=seed) for seed in range(3))

    def results(trainer):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        Attention.apply(trainer, *inputs, [100, 50], 16).backward(q)
        weight = torch.ones(64, requires_grad=True)
        RmsNorm.apply(trainer, q, weight, 1e-5).backward(k)
        return [*(x.grad for x in inputs), weight.grad]

    for one, two in zip(results(kernels(1)), results(kernels(3)), strict=True):
        assert torch.equal(one, two)


def test_impossible_arrays_are_refused(trainer):
    x = random(4, 16)
    with pytest.raises(ValueError, match="lengths"):
        Attention.apply(trainer, x, x, x, [3], 16)
    with pytest.raises(ValueError, match="heads"):
        Attention.apply(trainer, x, x, x, [4], 5)
    with pytest.raises(ValueError, match="vocabulary"):
        CrossEntropy.apply(trainer, x, torch.full((4,), 16), torch.ones(4), 0.0, True)
    with pytest.raises(ValueError, match="shapes"):
        SwiGlu.apply(trainer, x, random(4, 8))
    with pytest.raises(ValueError, match="floats of shape"):
        RmsNorm.apply(trainer, x, torch.ones(8), 1e-5)


def test_other_tensors_are_left_to_torch():
    assert takes(random(2, 2))
    assert not takes(random(2, 2).double())
    assert not takes(random(2, 2).to("meta"))


@pytest.mark.parametrize("dtype", NEAR)
def test_ops_with_and_without_kernels_agree(dtype):
    spans = [Span(0, 20), Span(0, 13)]
    inv_freq = 10000.0 ** (-np.arange(0, 16, 2) / 16)
    x, weight = random(33, 32, dtype=dtype), random(32, seed=1)

    def results(ops):
        step = ops.begin(None, spans, inv_freq)
        q, k, v = ops.matmul(x, *(0.3 * random(32, 32, seed=seed) for seed in (2, 3, 4)))
        y = ops.attention(ops.rope(q, step), ops.rope(k, step), v, step, 0)
        y = ops.swiglu(ops.rms_norm(y, weight, 1e-5), x)
        return y, *ops.cross_entropy(y.clone(), torch.arange(33) % 32, torch.ones(33))

    (y, loss, losses), slow = results(TorchOps(dtype=dtype)), results(TorchOps(dtype=dtype, kernels=False))
    near(y, slow[0].double(), dtype)
    assert torch.allclose(losses, slow[2], rtol=20 * NEAR[dtype])
    assert losses.sum().item() == pytest.approx(loss.item(), rel=1e-5)
