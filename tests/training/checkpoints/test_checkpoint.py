"""Tests of training/checkpoints: a checkpoint is whole or not there, kept as told, and read by peers."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.distributed import checkpoint as dcp

from llamero.errors import FormatError, ModelNotFound, SettingError, StorageError
from llamero.training.checkpoints.checkpoint import Checkpoint, newest_whole, steps
from llamero.training.checkpoints.manifest import Manifest, State
from llamero.training.checkpoints.pieces import Place
from llamero.training.checkpoints.saver import Keep, Saver
from llamero.training.optimizer import Constants, optimizer, set_rate
from llamero.training.parameters import fresh

SHARD = "shard-00001-model-00001-of-00001.safetensors"


class Trained:
    """Parameters and an optimiser that took some steps along drawn gradients."""

    def __init__(self, config, steps=2):
        self.parameters = fresh(config, 1)
        self.optimizer = optimizer(self.parameters, Constants())
        generator = torch.Generator().manual_seed(7)
        for _ in range(steps):
            for parameter in self.parameters.values():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            set_rate(self.optimizer, 1e-3)
            self.optimizer.step()

    def values(self):
        found = {f"weights.{name}": value for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            found[f"first.{name}"] = self.optimizer.state[parameter]["exp_avg"]
            found[f"second.{name}"] = self.optimizer.state[parameter]["exp_avg_sq"]
        return {name: value.detach().numpy().copy() for name, value in found.items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture
def trained(config):
    return Trained(config)


def save(saver, trained, *numbers):
    for step in numbers:
        saver.save(State(step, 2, {"seed": 3}, {"guard": [1.5]}), trained.parameters, trained.optimizer)
    saver.wait()


def test_what_is_saved_is_restored(config, trained, tmp_path):
    save(Saver(tmp_path), trained, 500)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["manifest.json", SHARD, "step-00000500"]
    other = Trained(config, steps=0)
    found = newest_whole(tmp_path)
    assert found.state == State(500, 2, {"seed": 3}, {"guard": [1.5]})
    found.restore(other.parameters, other.optimizer)
    assert_equal(other.values(), trained.values())
    assert {float(slot["step"]) for slot in other.optimizer.state.values()} == {2.0}
    whole = {f"weights.{name}": value for name, value in found.weights().items()}
    assert_equal(whole, {name: value for name, value in trained.values().items() if name in whole})
    assert len(whole) == len(other.parameters)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_torchs_own_reader_reads_it(trained, tmp_path):
    save(Saver(tmp_path), trained, 1)
    target = {name: torch.zeros(value.shape) for name, value in trained.values().items()}
    dcp.load(target, storage_reader=dcp.HuggingFaceStorageReader(str(tmp_path / "step-00000001")), no_dist=True)
    assert_equal({name: value.numpy() for name, value in target.items()}, trained.values())


def test_bfloats_stay_bfloats(config, tmp_path):
    one = {name: torch.nn.Parameter(value.detach().bfloat16()) for name, value in fresh(config, 1).items()}
    Saver(tmp_path, background=False).save(State(1, 0, {}), one, optimizer(one, Constants()))
    other = {name: torch.nn.Parameter(torch.zeros_like(value)) for name, value in one.items()}
    newest_whole(tmp_path).restore(other, optimizer(other, Constants()))
    assert all(torch.equal(one[name], other[name]) for name in one)
    size = (tmp_path / "step-00000001" / SHARD).stat().st_size
    assert size < 2 * sum(value.numel() for value in one.values()) + 10_000


def test_what_is_computed_meanwhile_is_not_saved(config, trained, tmp_path):
    before = trained.values()
    saver = Saver(tmp_path)
    saver.save(State(1, 2, {}), trained.parameters, trained.optimizer)
    with torch.no_grad():
        for parameter in trained.parameters.values():
            parameter.zero_()
    saver.wait()
    other = Trained(config, steps=0)
    newest_whole(tmp_path).restore(other.parameters, other.optimizer)
    assert_equal(other.values(), before)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(Keep(2), [7, 6]), (Keep(1), [7]), (Keep(2, every=3), [7, 6, 3]), (Keep(9), [7, 6, 5, 4, 3, 2, 1])],
)
def test_old_ones_go(keep, kept, trained, tmp_path):
    save(Saver(tmp_path, keep=keep), trained, *range(1, 8))
    assert steps(tmp_path) == kept
    assert len(list(tmp_path.iterdir())) == len(kept)  # nothing hidden is left


@pytest.mark.parametrize("wrong", [{"last": 0}, {"every": -1}])
def test_nothing_kept_is_refused(wrong):
    with pytest.raises(SettingError):
        Keep(**wrong)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARM = {
    "cut": (lambda folder: cut(folder / SHARD), r"has \d+ bytes instead of \d+"),
    "flipped": (lambda folder: flip(folder / SHARD), "has changed since it was written"),
    "lost": (lambda folder: (folder / SHARD).unlink(), f"{SHARD} cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is not there"),
    "torn manifest": (lambda folder: cut(folder / "manifest.json") or cut(folder / "manifest.json"), "not valid JSON"),
    "other step": (
        lambda folder: (folder / "manifest.json").write_text(
            (folder / "manifest.json").read_text().replace('"step": 3', '"step": 4')
        ),
        r"manifest\.json: has changed",
    ),
    "of a later version": (
        lambda folder: (folder / "manifest.json").write_text('{"format": 9}'),
        "is of format 9; this version reads format 1",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_broken_one_is_passed_over_and_named(harm, trained, tmp_path):
    save(Saver(tmp_path), trained, 2, 3)
    spoil, message = HARM[harm]
    spoil(tmp_path / "step-00000003")
    said = []
    assert newest_whole(tmp_path, warn=said.append).state.step == 2
    assert len(said) == 1
    assert "step-00000003" in said[0]
    with pytest.warns(UserWarning, match=message):
        newest_whole(tmp_path)
    save(Saver(tmp_path), trained, 3)  # gone on from 2, the step is saved anew over the broken one
    assert newest_whole(tmp_path, warn=pytest.fail).state.step == 3


def test_broken_ones_ahead_take_no_place_of_those_that_are_kept(trained, tmp_path):
    save(Saver(tmp_path, keep=Keep(last=3)), trained, 10, 20, 30)
    for step in (20, 30):
        cut(tmp_path / f"step-000000{step}" / SHARD)
    save(Saver(tmp_path, keep=Keep(last=2)), trained, 15)  # gone on from 10
    assert newest_whole(tmp_path, warn=lambda _: None).state.step == 15
    assert steps(tmp_path) == [30, 20, 15, 10]


def test_if_all_are_broken_nothing_begins_anew(trained, tmp_path):
    save(Saver(tmp_path), trained, 2, 3)
    for path in tmp_path.glob(f"*/{SHARD}"):
        cut(path)
    with pytest.raises(FormatError, match=r"move .* away to begin anew: .*step-00000003: .*step-00000002: "):
        newest_whole(tmp_path)


def test_where_there_is_none(tmp_path):
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "nowhere") is None
    with pytest.raises(ModelNotFound):
        Checkpoint.open(tmp_path)


def test_names_that_leave_the_folder_are_refused(trained, tmp_path):
    save(Saver(tmp_path), trained, 1)
    folder = tmp_path / "step-00000001"
    manifest = Manifest.read(folder)
    Manifest(manifest.state, manifest.tensors, {"../x.safetensors": manifest.files[SHARD]}, {}).write(folder)
    with pytest.raises(FormatError, match="is no name of a safetensors file in this folder"):
        Manifest.read(folder)


def test_a_hole_between_parts_is_found(trained, tmp_path):
    save(Saver(tmp_path), trained, 1)
    path = tmp_path / "step-00000001" / SHARD
    data = path.read_bytes()
    path.write_bytes(
        data.replace(rb"\"weights.norm\": {\"saved_offsets\": [0]", rb"\"weights.norm\": {\"saved_offsets\": [4]")
    )
    with pytest.raises(FormatError, match=r"norm: the files hold 28 of 32 values"):
        Checkpoint.open(path.parent).restore(trained.parameters, trained.optimizer)


def test_places():
    one, other = Place((0, 4), (6, 4)), Place((2, 6), (9, 9))
    common = one.common(other)
    assert common == other.common(one) == Place((2, 6), (4, 2))
    assert common.within(one) == (slice(2, 6), slice(2, 4))
    assert common.within(other) == (slice(0, 4), slice(0, 2))
    assert one.common(Place((6, 4), (1, 1))) is None


FULL = """
import resource, sys, time
from pathlib import Path
import torch
from llamero.training.checkpoints.manifest import State
from llamero.training.optimizer import Constants, optimizer
from llamero.training.checkpoints.saver import Saver
from llamero.errors import StorageError
parameters = {"norm": torch.nn.Parameter(torch.ones(100_000))}
saver = Saver(Path(sys.argv[1]))
saver.save(State(1, 0, {}), parameters, optimizer(parameters, Constants()))
saver.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the next file breaks off half-way
saver.save(State(2, 0, {}), parameters, optimizer(parameters, Constants()))
try:
    while True:
        time.sleep(0.01)
        saver.check()
except StorageError as error:
    print(error)
"""


def test_a_save_that_breaks_off_leaves_the_others(tmp_path):
    said = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True).stdout
    assert "step-00000002 could not be saved; the checkpoints before it are untouched. process 0: OSError" in said
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_whole(tmp_path).state.step == 1


def test_a_folder_that_cannot_be_written_is_told(trained, tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(StorageError, match="step-00000001 could not be saved"):
        save(Saver(tmp_path / "checkpoints"), trained, 1)


def test_what_a_killed_process_left_is_tidied(trained, tmp_path):
    save(Saver(tmp_path), trained, 1, 2)
    shutil.copytree(tmp_path / "step-00000002", tmp_path / ".step-00000003.partial")
    (tmp_path / "step-00000001").rename(tmp_path / ".step-00000001.gone")  # killed while removing
    (tmp_path / "step-00000002").rename(tmp_path / ".step-00000002.old")  # killed while replacing
    Saver(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
    assert newest_whole(tmp_path).state.step == 2
