"""Tests of training/team/crew.py, sharded.py, shared_ops.py and heart.py: many processes do what one does, or all stop.

What the processes do stands in many.py; here is held against each other what they left.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llamero.errors import SettingError
from llamero.training.team.crew import join
from llamero.training.team.layout import Layout
from llamero.training.team.shared_ops import _sights
from llamero.training.team.team import Alone

MANY = Path(__file__).with_name("many.py")
LAYOUTS = ["replicate=4", "shard=4", "replicate=2,shard=2", "shard=2,tensor=2", "replicate=2,tensor=2", "context=4"]
LAYOUTS += ["shard=2,context=2", "context=2,tensor=2"]
VARIED = [
    "tied,shard=2,tensor=2",
    "tied,shard=2,context=2",
    "documents,shard=2,context=2",
    "documents,context=2,tensor=2",
]
VARIED += ["recompute,shard=2,tensor=2", "recompute,context=2,tensor=2", "muon,shard=2,tensor=2"]


def many(what, folder):
    """What each process ended with, and when; what all of them said."""
    done = subprocess.run(
        [sys.executable, MANY, what, folder], capture_output=True, text=True, timeout=240, check=False
    )
    ends = [line.split() for line in done.stdout.splitlines()]
    return [int(code) for code, _ in ends], [float(seconds) for _, seconds in ends], done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    codes, _, said = many("everything", folder)
    assert codes == [0, 0, 0, 0], said
    return folder


def distance(results, name, alone="alone"):
    """How far two results are apart at most: gradients by the largest of each, losses, norms, and parameters."""
    one, other = np.load(results / f"{alone}.npz"), np.load(results / f"{name}.npz")
    assert one.files == other.files
    gradients = [key for key in one.files if key.startswith("gradient.")]
    assert len(gradients) > 10
    far = [np.abs(one[key] - other[key]).max() / np.abs(one[key]).max() for key in gradients]
    parameters = set(one.files) - set(gradients) - {"losses", "measured"}
    moved = [np.abs(one[key] - other[key]).max() for key in parameters]
    losses = np.abs(one["losses"] / other["losses"] - 1).max(axis=0)
    return max(far), *losses, abs(one["measured"] / other["measured"] - 1)[0], max(moved)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_does_what_one_process_does(layout, results):
    gradient, loss, norm, measured, parameter = distance(results, layout)
    assert gradient < 2e-6
    assert max(loss, measured) < 1e-6
    assert norm < 2e-6
    assert parameter < 2e-5  # AdamW's first steps are as long for the smallest gradients as for others


@pytest.mark.parametrize("case", VARIED)
def test_so_do_other_models_batches_and_ways_to_learn(case, results):
    gradient, loss, norm, measured, parameter = distance(results, case, f"{case.split(',')[0]},alone")
    assert gradient < 2e-6
    assert max(loss, measured) < 1e-6
    assert norm < 2e-6
    assert parameter < 2e-5


@pytest.mark.parametrize("layout", ["shard=2,tensor=2", "shard=2,context=2"])
def test_bfloats_agree_as_far_as_they_reach(layout, results):
    gradient, loss, *_ = distance(results, f"bfloats,{layout}", "bfloats,alone")
    assert gradient < 0.03  # a bfloat has 8 bits
    assert loss < 1e-4


def test_a_run_may_change_its_layout_at_any_checkpoint(results):
    changing = json.loads((results / "changing-0.json").read_text())
    straight = json.loads((results / "straight.json").read_text())
    assert changing.keys() == {"1", "2", "3", "4", "5", "6"}
    for step, (loss, _) in straight.items():
        assert changing[step] == pytest.approx(loss, rel=1e-6)
    others = [json.loads((results / f"changing-{process}.json").read_text()) for process in (1, 2, 3)]
    assert all(other == {step: changing[step] for step in other} and len(other) == 4 for other in others)


def test_stopped_and_gone_on_in_the_same_layout_it_is_the_same_bit_for_bit(results):
    assert json.loads((results / "stopped.json").read_text()) == json.loads((results / "straight.json").read_text())
    one, other = np.load(results / "stopped.npz"), np.load(results / "straight.npz")
    assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_no_process_stores_what_another_holds(results):
    folder = results / "straight/checkpoints/step-00000004"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert len(files) == 4
    parameters = sum(value.size for value in np.load(results / "straight.npz").values())
    stored = sum(file["bytes"] for file in files.values())
    assert stored == pytest.approx(3 * 4 * parameters, rel=0.2)  # both moments too; headers are the rest
    assert math.isclose(max(file["bytes"] for file in files.values()), stored / 4, rel_tol=0.1)


def test_all_hear_of_a_file_that_only_one_looked_at(results):
    said = {(results / f"broken/changed-{process}").read_text() for process in range(4)}
    assert len(said) == 1
    assert "shard-00003-model-00001-of-00001.safetensors has changed since it was written" in said.pop()


def test_a_killed_process_stops_the_others(tmp_path):
    codes, seconds, said = many("killed", tmp_path)
    assert codes == [1, 1, -9, 1]
    assert max(seconds) < 60
    assert "error: process 2 (" in said or "DeviceError: process 2 (" in said
    assert "has given no sign of life for" in said


def test_a_process_that_fails_says_why_to_all(tmp_path):
    codes, _, said = many("failed", tmp_path)
    assert codes == [1, 1, 1, 1]
    assert said.count("stopped: MemoryError: the graphics card is full") >= 3


def test_one_process_is_a_team(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join() as team:
        assert team == Alone()
    with (
        pytest.raises(SettingError, match=r"tensor=2 is for 2 processes and there are 1: start it with torchrun"),
        join(Layout(tensor=2)),
    ):
        pass


def test_what_the_tokens_of_a_part_see():
    """Two documents of 5 and 3 tokens; the first and the last two tokens are here."""
    early, first = _sights([5, 3], (slice(0, 2), slice(6, 8))), _sights([5, 3], (slice(3, 4), slice(4, 6)))
    assert [(sight.queries, sight.keys) for sight in early] == [
        (slice(0, 2), slice(0, 2)),
        (slice(2, 4), slice(5, 8)),
    ]
    assert [(sight.queries, sight.keys) for sight in first] == [
        (slice(0, 1), slice(0, 4)),
        (slice(1, 2), slice(0, 5)),
        (slice(2, 3), slice(5, 6)),
    ]
