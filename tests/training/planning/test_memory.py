"""Tests of training/planning/memory.py: activations are what autograd keeps, peaks are what is allocated."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from llamero.model.config import Config
from llamero.model.llama import hidden
from llamero.ops.protocol import Span
from llamero.ops.torch_cpu import trainer_here
from llamero.ops.torch_ops import TorchOps
from llamero.training.checkpoints.checkpoint import pieces
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.loop import Run, Settings
from llamero.training.optimizer import Constants
from llamero.training.parameters import fresh, weights
from llamero.training.planning.memory import layer_bytes, memory, own_layer_bytes
from llamero.training.planning.operations import layer_matrices
from llamero.training.planning.task import Task, Way
from llamero.training.pretrain import NextToken
from llamero.training.schedule import Cosine

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {  # wide, deep and narrow, with many words, with grouped heads
    "wide": (Config(256, 2, 8, 8, 32, 704, 512, 64, tied=True), 8),
    "deep": (Config(64, 24, 4, 4, 16, 176, 512, 64, tied=True), 8),
    "words": (Config(96, 3, 4, 4, 24, 256, 8192, 64), 16),
    "grouped": (Config(128, 6, 8, 2, 16, 512, 1000, 128), 8),
}


def kept(config, ops, sequences, context):
    """Bytes that the forward pass keeps for the way back, parameters left out."""
    parameters = fresh(config, 0)
    own = {value.untyped_storage().data_ptr() for value in parameters.values()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage  # held, so that no other may take its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        spans = [Span(0, context)] * sequences
        end = hidden(ops, weights(config, parameters), None, [0] * (sequences * context), spans)
    del end
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("own", [True, False], ids=["own kernels", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_keeps_what_is_said(dtype, own):
    if own and trainer_here() is None:
        pytest.skip("this machine has no kernels of ours for training")
    ops = TorchOps("cpu", DTYPES[dtype], kernels=own)
    shape = {"dim": 64, "heads": 4, "kv_heads": 2, "head_dim": 24, "ffn_dim": 176, "vocab": 97, "context": 32}
    one, three = (Config(layers=layers, **shape) for layers in (1, 3))
    found = (kept(three, ops, 3, 32) - kept(one, ops, 3, 32)) / 2
    width = 4 if dtype == "f32" else 2
    said = 96 * (own_layer_bytes if own else layer_bytes)(one, 1, width)
    if dtype == "bf16":
        said += 2 * layer_matrices(one)  # copies of the matrices
    assert found == pytest.approx(said, rel=0.01)


def allocated(run):
    """The most bytes that torch's allocator had given out at once since the run's parameters were made."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()
    sizes = [
        event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()) if event.name() == "[memory]"
    ]
    return int(np.cumsum(sizes).max())


@pytest.mark.parametrize("recompute", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_peak_is_as_planned(shape, dtype, recompute):
    config, micro = SHAPES[shape]
    context = config.context
    if trainer_here() is None:
        pytest.skip("this machine has no kernels of ours for training")

    def run():
        parameters = fresh(config, 0)
        ids = np.random.default_rng(0).integers(0, config.vocab, 4 * micro * context).astype(np.uint16)
        objective = NextToken(TorchOps("cpu", DTYPES[dtype]), weights(config, parameters), recompute=recompute)
        batches = Batches(Tokens.of(ids), context=context, sequences=2 * micro)
        Run(parameters, objective, batches, Settings(Cosine(1e-4, 2, 1), micro=micro)).train()

    task = Task(config, context, 2 * micro * context, 1e6, dtype)
    said = memory(task, Way(micro=micro, recompute=recompute), own_kernels=True).total
    assert allocated(run) == pytest.approx(said, rel=0.10)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_copy_that_is_written_is_as_planned(optimizer):
    config, _ = SHAPES["grouped"]
    parameters = fresh(config, 0)
    objective = NextToken(TorchOps("cpu", torch.float32), weights(config, parameters))
    ids = np.random.default_rng(0).integers(0, config.vocab, 1000).astype(np.uint16)
    batches = Batches(Tokens.of(ids), context=64, sequences=1)
    run = Run(parameters, objective, batches, Settings(Cosine(1e-4, 1, 1), constants=Constants(kind=optimizer)))
    run.train()
    held = sum(piece.values.nbytes for piece in pieces(parameters, run.optimizer))
    task = Task(config, 64, 64, 1e6, optimizer=optimizer)
    assert held == pytest.approx(memory(task, Way()).copy, rel=0.01)
