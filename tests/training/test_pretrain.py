"""Tests of training/pretrain.py: loss and every gradient against transformers, and the same for every split."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llamero.errors import SettingError
from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.config_files import config_to_hf
from llamero.model.llama import head, hidden
from llamero.model.weights import file_name, reorder
from llamero.ops.protocol import Span
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.batch import Batch
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.parameters import fresh, weights
from llamero.training.pretrain import NextToken


def to_halves(config, name, value):
    """Rows of Q and K as transformers has them."""
    heads = {"wq": config.heads, "wk": config.kv_heads}.get(name.rpartition(".")[2])
    array = np.ascontiguousarray(value.detach().numpy())
    if heads is None:
        return torch.from_numpy(array.copy())
    tensor = Tensor(TensorInfo(name, F32, array.shape), array.reshape(-1).view(np.uint8))
    return torch.from_numpy(reorder(tensor, heads, to_halves=True).decode())


def objective(config, parameters, **options):
    return NextToken(TorchOps(), weights(config, parameters), **options)


def livelier(config, seed=0):
    """Parameters whose attention does something: fresh ones are nearly flat."""
    parameters = fresh(config, seed)
    for parameter in parameters.values():
        parameter.data *= 6 if parameter.ndim > 1 else 1.3
    return parameters


def test_loss_and_gradients_are_those_of_transformers(config, tokens):
    parameters = livelier(config)
    peer = LlamaForCausalLM(LlamaConfig(**config_to_hf(config)))
    state = {file_name(name, "hf"): to_halves(config, name, value) for name, value in parameters.items()}
    missing = peer.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    batch = Batches(tokens, context=16, sequences=3).at(0)

    loss = objective(config, parameters).accumulate(batch, 48) / 48
    logits = peer(torch.from_numpy(batch.inputs)).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten())
    theirs.backward()

    assert loss == pytest.approx(theirs.item(), rel=1e-6)
    gradients = {name: parameter.grad for name, parameter in peer.named_parameters()}
    for name, parameter in parameters.items():
        ours = to_halves(config, name, parameter.grad)
        reference = gradients[file_name(name, "hf")]
        assert (ours - reference).norm() < 2e-6 * reference.norm(), name


def test_a_gradient_is_the_slope_of_the_loss(config, tokens):
    parameters = livelier(config)
    batch = Batches(tokens, context=16, sequences=2).at(0)
    learnt = objective(config, parameters)
    learnt.accumulate(batch, 1)
    rng = np.random.default_rng(1)
    for parameter in parameters.values():
        way = torch.from_numpy(rng.normal(size=parameter.shape)).float()
        way *= 1e-2 / way.norm()
        slope = (parameter.grad * way).sum().item()
        ends = []
        for sign in (1, -1):
            parameter.data += sign * way
            ends.append(learnt.measure(batch))
            parameter.data -= sign * way
        assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=2e-2, abs=2e-3)


@pytest.mark.parametrize("rows", [1, 7, 48])
def test_rows_at_a_time_do_not_matter(config, tokens, rows):
    batch = Batches(tokens, context=16, sequences=3).at(2)
    gradients, losses = [], []
    for count in (rows, 1000):
        parameters = livelier(config)
        losses.append(objective(config, parameters, rows=count).accumulate(batch, 48))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters.values()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert (gradients[0] - gradients[1]).norm() < 1e-6 * gradients[1].norm()


def test_tokens_that_do_not_count_leave_no_trace(config):
    ids = np.random.default_rng(0).integers(0, 97, 400).astype(np.uint16)
    marks = np.random.default_rng(1).random(400) < 0.3
    batch = Batches(Tokens.of(ids, marks), context=16, sequences=4).at(0)
    spoilt = dataclasses.replace(batch, targets=np.where(batch.counts > 0, batch.targets, 0))
    results = []
    for each in (batch, spoilt):
        parameters = fresh(config, 1)
        loss = objective(config, parameters).accumulate(each, 5)
        results.append((loss, parameters["norm"].grad.clone()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    assert 0 < batch.counts.sum() < batch.counts.size


def test_measuring_is_the_loss_without_gradients(config, tokens):
    batch = Batches(tokens, context=16, sequences=3).at(0)
    parameters = livelier(config)
    learnt = objective(config, parameters)
    measured = learnt.measure(batch)
    assert all(parameter.grad is None for parameter in parameters.values())
    assert measured == pytest.approx(learnt.accumulate(batch, 48), rel=1e-6)


def test_bf16_is_close_and_keeps_wide_parameters(config, tokens):
    batch = Batches(tokens, context=16, sequences=4).at(0)
    parameters = fresh(config, 0)
    narrow = NextToken(TorchOps(dtype=torch.bfloat16), weights(config, parameters)).accumulate(batch, 64)
    assert all(parameter.grad.dtype == torch.float32 for parameter in parameters.values())
    assert narrow == pytest.approx(objective(config, parameters).measure(batch), rel=5e-3)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("lengths", [(5, 11, 16, 1, 15), (16, 16), (3,) * 5 + (1,), (1, 2, 3, 4, 6)])
def test_packed_documents_learn_as_each_would_alone(config, lengths, kernels):
    """Loss and every gradient, with targets across borders left out; by our kernels, and as on a GPU."""
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 97, length + 1) for length in lengths]
    inputs, targets = (np.concatenate([text[part] for text in texts]) for part in (slice(None, -1), slice(1, None)))
    shape = (-1, 16)
    spans = tuple(Span(0, length) for length in lengths)
    packed = Batch(
        inputs.reshape(shape), targets.reshape(shape), np.ones(inputs.shape, np.float32).reshape(shape), spans
    )
    together, apart = livelier(config), livelier(config)
    one, other = (NextToken(TorchOps(kernels=kernels), weights(config, each)) for each in (together, apart))
    loss = one.accumulate(packed, 7)
    losses = [other.accumulate(Batch.of(text[None]), 7) for text in texts]
    assert loss == pytest.approx(sum(losses), rel=1e-6)
    for name in together:
        difference = (together[name].grad - apart[name].grad).norm()
        assert difference < 2e-6 * apart[name].grad.norm(), name


@pytest.mark.parametrize("recompute", [1, 2, 7])
def test_recomputed_layers_change_no_bit(config, tokens, recompute):
    batch = Batches(tokens, context=16, sequences=3).at(0)
    kept, again = livelier(config), livelier(config)
    loss = objective(config, kept).accumulate(batch, 48)
    assert objective(config, again, recompute=recompute).accumulate(batch, 48) == loss
    for name, parameter in kept.items():
        assert torch.equal(parameter.grad, again[name].grad), name


def test_recomputed_layers_keep_only_their_inputs(config, tokens):
    batch = Batches(tokens, context=16, sequences=3).at(0)

    def kept_bytes(recompute):
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.update({(x.data_ptr(), x.shape): x.nbytes}) or x, lambda x: x
        ):
            objective(config, livelier(config), recompute=recompute)._hidden(batch)
        return sum(sizes.values())

    assert kept_bytes(1) < kept_bytes(2) < kept_bytes(0)


def test_z_loss_is_learnt_from_and_not_told(config, tokens):
    batch = Batches(tokens, context=16, sequences=3).at(0)
    plain, other = livelier(config), livelier(config)
    loss = objective(config, plain).accumulate(batch, 48)
    learnt = objective(config, other, z_loss=0.1)
    assert learnt.accumulate(batch, 48) == pytest.approx(loss, rel=1e-6)
    assert learnt.measure(batch) == pytest.approx(loss, rel=1e-6)
    x = hidden(TorchOps(), weights(config, other), None, batch.inputs.reshape(-1).tolist(), batch.spans)
    logits = head(TorchOps(), weights(config, other), x)
    z = 0.1 * logits.logsumexp(dim=1).square().sum() / 48
    wanted = torch.autograd.grad(z, list(other.values()))
    for (name, value), extra in zip(other.items(), wanted, strict=True):
        assert (value.grad - plain[name].grad - extra).norm() < 1e-5 * value.grad.norm() + 1e-9, name


def test_impossible_settings_are_refused(config):
    with pytest.raises(SettingError):
        objective(config, fresh(config, 0), recompute=-1)
    with pytest.raises(SettingError):
        objective(config, fresh(config, 0), rows=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_every_time_and_the_same_loss_for_every_split(config, tokens, dtype):
    batch = Batches(tokens, context=16, sequences=6).at(0)

    def results(micro):
        parameters = livelier(config)
        learner = NextToken(TorchOps(dtype=dtype), weights(config, parameters))
        loss = sum(learner.accumulate(part, 96) for part in batch.split(micro)) / 96
        return loss, {name: parameter.grad for name, parameter in parameters.items()}

    loss, gradients = results(6)
    again, same = results(6)
    assert again == loss
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)
    for micro in (1, 2, 4):
        assert results(micro)[0] == pytest.approx(loss, rel=1e-6)
