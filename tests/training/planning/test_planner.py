"""Tests of training/planning/planner.py: published runs come out, plans fit, choices are the right ones."""

import json

import pytest

from llamero.errors import SettingError
from llamero.model.family import FAMILY, by_name
from llamero.ops.limits import Limits
from llamero.training.planning import operations
from llamero.training.planning.hardware import cpu, gpu
from llamero.training.planning.planner import plan, propose, remedies
from llamero.training.planning.task import Pipeline, Task, Way
from llamero.training.team.layout import Layout

A100, H100, H200 = gpu("a100"), gpu("h100"), gpu("h200")
LLAMA_1 = [("7b", 1.0e12, 82432), ("13b", 1.0e12, 135168), ("33b", 1.4e12, 530432), ("65b", 1.4e12, 1022362)]
LLAMA_3 = [  # tensor, context, pipeline, replicas, length, sequences of a replica, T operations/s, utilisation
    (8, 1, 16, 64, 8192, 32, 430, 0.43),
    (8, 1, 16, 128, 8192, 16, 400, 0.41),
    (8, 16, 16, 8, 131072, 16, 380, 0.38),  # 8 replicas: the 4 printed do not come to 16,384 devices
]


def llama_1(size, tokens):
    return Task(by_name(f"llama-1-{size}"), 2048, 4 << 20, tokens, "bf16")


@pytest.mark.parametrize(("size", "tokens", "hours"), LLAMA_1)
def test_the_gpu_hours_of_llama_1(size, tokens, hours):
    """LLaMA, table 15. One figure was used to find the share of A100's peak: 65B's tokens a second."""
    found = propose(llama_1(size, tokens), 2048, A100)
    assert found.fits
    assert found.device_hours == pytest.approx(hours, rel=0.10)


def test_the_speed_of_llama_1_65b():
    """LLaMA, section 2.4: about 380 tokens a second and device, 21 days."""
    found = propose(llama_1("65b", 1.4e12), 2048, A100)
    assert found.speed / 2048 == pytest.approx(380, rel=0.01)
    assert found.seconds / 86400 == pytest.approx(21, rel=0.02)


@pytest.mark.parametrize(("tensor", "context", "stages", "replicas", "length", "sequences", "rate", "share"), LLAMA_3)
def test_the_utilisation_of_llama_3(tensor, context, stages, replicas, length, sequences, rate, share):
    """Llama 3, table 4. The first row was used to find the share of H100's peak; the other two follow.

    The pipeline has a layer in each chunk: 16 stages of 8, less one each for embedding and output, make 126 (3.3.2).
    """
    task = Task(by_name("llama-3.1-405b"), length, replicas * sequences * length, 15e12, "bf16")
    way = Way(Layout(shard=replicas, context=context, tensor=tensor), 1, 0, Pipeline(stages, 8))
    found = plan(task, way, H100)
    assert task.batch == 16 << 20
    assert way.rounds(task) == sequences
    assert found.rate / 1e12 == pytest.approx(rate, rel=0.03)
    assert found.utilisation == pytest.approx(share, rel=0.04)  # printed in whole percents


def test_the_speed_of_meditron_70b():
    """Meditron, section 3: 40,200 tokens/s on 128 A100, tensor 8, pipeline 8, 2 replicas. Nothing is fitted to it."""
    task = Task(by_name("llama-2-70b"), 4096, 512 * 4096, 48e9, "bf16")
    found = plan(task, Way(Layout(replicate=2, tensor=8), 2, 0, Pipeline(8)), A100)
    assert found.way.devices == 128
    assert found.speed == pytest.approx(40200, rel=0.10)


@pytest.mark.parametrize("name", FAMILY)
def test_weights_are_counted_as_the_blueprint_has_them(name):
    config = by_name(name)
    assert operations.parameters(config) == config.parameters
    embedding = 0 if config.tied else config.vocab * config.dim
    norms = (2 * config.layers + 1) * config.dim
    assert operations.matrices(config) == config.parameters - embedding - norms


def test_operations_of_a_model_that_can_be_counted_by_hand():
    config = by_name("stories-260k")  # dim 64, 5 layers, 8 heads and 4 of keys of 8, inner 172, vocab 512
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 172
    seen = sum(range(1, 101))  # pairs of tokens in a sequence of 100
    by_hand = 2 * (5 * layer + 512 * 64) + 5 * (2 * 2 * 64 * seen) / 100
    assert operations.forward_operations(config, 100) == by_hand
    assert operations.training_operations(config, 100) == 3 * by_hand


def test_what_is_cut_is_held_in_part():
    task = Task(by_name("llama-3.1-8b"), 8192, 64 * 8192, 1e12, "bf16")
    whole, cut = (plan(task, Way(layout), H100).memory for layout in (Layout(), Layout(shard=4, tensor=2)))
    assert whole.weights == 4 * task.config.parameters
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(whole, part) == 8 * getattr(cut, part)
    halves = plan(task, Way(Layout(context=2)), H100).memory
    assert halves.activations == whole.activations / 2
    full = plan(task, Way(recompute=1), H100)
    assert full.memory.activations < whole.activations / 5
    assert 1.25 < full.pace.total / plan(task, Way(), H100).pace.total < 4 / 3, "all but the head is computed again"
    second = plan(task, Way(recompute=2), H100)
    assert full.memory.total < second.memory.total < plan(task, Way(), H100).memory.total
    assert second.pace.again == full.pace.again / 2
    muon = plan(Task(task.config, 8192, 64 * 8192, 1e12, "bf16", "muon"), Way(), H100).memory
    assert 4 * task.config.parameters < muon.optimizer < whole.optimizer


@pytest.mark.parametrize("devices", [1, 2, 8, 12, 64, 256, 1000])
@pytest.mark.parametrize("name", ["stories-110m", "llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b"])
def test_proposals_fit_or_say_what_would(name, devices):
    task = Task(by_name(name), 1024, 3000 * 1024, 1e10, "bf16")
    found = propose(task, devices, H100)
    assert found.way.layout.devices == found.way.devices == devices
    found.way.layout.check(task.config, task.context, task.sequences)
    if found.fits:
        assert found.memory.total <= found.hardware.usable
    else:
        assert remedies(found)


def test_nothing_is_cut_that_need_not_be():
    task = Task(by_name("stories-110m"), 1024, 512 * 1024, 1e9, "bf16")
    assert propose(task, 8, H100).way.layout == Layout(replicate=8)
    assert propose(task, 8, H100).way.recompute == 0


def test_shards_stay_in_a_node_while_there_is_room():
    task = Task(by_name("llama-2-7b"), 4096, 1024 * 4096, 1e12, "bf16")
    layout = propose(task, 256, H100).way.layout
    assert 1 < layout.shard <= 8
    assert layout.tensor == layout.context == 1


def test_slow_networks_are_waited_for():
    task = Task(by_name("llama-2-70b"), 512, 512 * 512, 1e12, "bf16")
    far = plan(task, Way(Layout(shard=512)), A100).pace
    near = plan(task, Way(Layout(shard=64, tensor=8), 8), A100).pace
    assert far.state > 0
    assert near.total < far.total
    beyond = plan(task, Way(Layout(context=16, tensor=8), 1), A100).pace
    assert beyond.sequences > 0
    assert plan(task, Way(Layout(context=2)), A100).pace.sequences < beyond.sequences


def test_long_contexts_are_cut_when_there_are_fewer_sequences_than_devices():
    task = Task(by_name("llama-3.1-8b"), 131072, 4 * 131072, 1e11, "bf16")
    found = propose(task, 64, H100)
    assert found.fits
    assert found.way.layout.context * found.way.layout.tensor >= 16


def test_what_is_given_is_kept_to():
    task = Task(by_name("llama-3.2-1b"), 2048, 512 * 2048, 1e10, "bf16")
    found = propose(task, 8, H100, Layout(replicate=2, shard=4), micro=2, recompute=1)
    assert found.way == Way(Layout(replicate=2, shard=4), 2, 1)


def test_remedies_are_the_smallest_that_help():
    task = Task(by_name("llama-3.2-1b"), 8192, 64 * 8192, 1e10, "bf16")
    tight = propose(task, 1, H100, micro=16, recompute=0)
    assert not tight.fits
    first, *_ = remedies(tight)
    assert first.startswith("micro 1:")
    large = propose(Task(by_name("llama-3.1-70b"), 8192, 512 * 8192, 1e12, "bf16"), 8, H200)
    assert not large.fits
    (would,) = remedies(large)
    assert would.startswith("16 devices laid out as")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task(by_name("llama-2-7b"), 4096, 5000, 1e9), "not whole windows of 4096; 4096 is"),
        (lambda: Task(by_name("llama-2-7b"), 4096, 4096, 0), "must be positive"),
        (lambda: Task(by_name("llama-2-7b"), 4096, 4096, 1e9, "fp16"), "did you mean 'bf16'"),
        (lambda: Way(recompute=-1), "not negative"),
        (lambda: Way(micro=0), "at least 1"),
        (lambda: gpu("h10"), "did you mean 'h100'"),
        (lambda: propose(llama_1("7b", 1e9), 7, A100), "7 devices cannot share"),
        (lambda: propose(llama_1("7b", 1e9), 8, A100, Layout(shard=4)), "shard=4 is of 4 devices, but there are 8"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_this_machine_is_one_device_by_its_measured_limits():
    hardware = cpu(Limits(read=40e9, int8=2e12, bf16=None, f32=1e12), memory=8e9)
    task = Task(by_name("stories-15m"), 256, 64 * 256, 1e8)
    found = propose(task, 1, hardware)
    assert found.fits
    assert found.rate == pytest.approx(hardware.share * 1e12)
    assert cpu(Limits(1, 1, 5.0, 1)).peak == {"f32": 1, "bf16": 5.0}
    assert json.loads(json.dumps(found.as_json()))["memory"]["total"] == found.memory.total
