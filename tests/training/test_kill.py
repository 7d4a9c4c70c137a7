"""Kill -9 at any moment: what a run saved stays whole, and the run that goes on is bit for bit the one never killed."""

import subprocess
import sys

import numpy as np
import pytest

# One process trains and is killed, again and again; children are forked so that torch is loaded once.
HARNESS = """
import os, random, signal, sys, time, warnings
from pathlib import Path
import numpy as np
import torch
from llamero.model.config import Config
from llamero.ops.torch_ops import TorchOps
from llamero.training.data.batches import Batches
from llamero.training.data.tokens import Tokens
from llamero.training.checkpoints.checkpoint import newest_whole
from llamero.training.loop import Run, Settings
from llamero.training.parameters import arrays, fresh, weights
from llamero.training.pretrain import NextToken
from llamero.training.checkpoints.saver import Keep
from llamero.training.schedule import Cosine

warnings.simplefilter("error")  # a checkpoint that is not whole would warn
folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(4)
config = Config(dim=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn_dim=48, vocab=97, context=16)
tokens = Tokens.of(np.random.default_rng(3).integers(0, 97, 500).astype(np.uint16))  # an epoch is 5 steps

def run(where, micro):
    torch.set_num_threads(1)
    parameters = fresh(config, 0)
    settings = Settings(Cosine(3e-3, 60, 5), micro=micro, save_every=1, keep=Keep(1))
    batches = Batches(tokens, context=16, sequences=6)
    return Run(parameters, NextToken(TorchOps(), weights(config, parameters)), batches, settings, where)

def train(where, curve, micro=3):
    with curve.open("a") as file:
        def tell(report):
            print(report.step, report.loss.hex(), file=file, flush=True)
        one = run(where, micro)
        one.train(tell)
    np.savez(curve.with_suffix(".npz"), **arrays(one.parameters))

def fork(*arguments):
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child

os.waitpid(fork(None, folder / "straight"), 0)
done = 0
for number in range(kills + 1):
    child = fork(folder / "run", folder / "killed")
    if number < kills:
        time.sleep(rng.uniform(0.0, float(sys.argv[3])))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    found = newest_whole(folder / "run" / "checkpoints")
    assert (found.state.step if found else 0) >= done
    done = found.state.step if found else 0
    print(number, done, status)
"""


def curve(path):
    return [line.split() for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kills", [20])
def test_killed_again_and_again(kills, tmp_path):
    child = [sys.executable, "-c", HARNESS, str(tmp_path), str(kills), "0.12"]
    said = subprocess.run(child, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    rounds = [line.split() for line in said.stdout.splitlines()]
    assert rounds[-1] == [str(kills), "60", "0"], said.stdout + said.stderr
    assert sum(status == "9" for _, _, status in rounds) >= kills // 2  # most of them died on the way
    straight = dict(curve(tmp_path / "straight"))
    assert sorted(map(int, straight)) == list(range(1, 61))
    again = curve(tmp_path / "killed")
    assert {step for step, _ in again} == straight.keys()
    assert all(straight[step] == loss for step, loss in again)  # bit for bit, and steps done twice too
    one, other = np.load(tmp_path / "straight.npz"), np.load(tmp_path / "killed.npz")
    assert all(np.array_equal(one[name], other[name]) for name in one.files)
