"""The real command, killed at random moments: started again it must go on as if nothing had been.

Its starts are forked from a process that has imported torch already, so that twenty of them take seconds.
"""

import multiprocessing
import random
import time

import numpy as np
import pytest

from llamero.formats.gguf import GGUF
from llamero.interfaces.cli.main import main
from llamero.training.journal import read

TOY = (
    "--dim 32 --layers 2 --heads 2 --kv-heads 1 --head-dim 16 --ffn-dim 48 --vocab 300 --context 32 --batch 128 "
    "--steps 400 --save-every 7 --validate-every 50 --sample-every 150 --spread 2 --dtype f32 --threads 1"
)
KILLS = {"adamw": 20, "muon": 5}


@pytest.fixture(scope="module")
def starts():
    """A way to start the command in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["llamero.training.pretraining", "llamero.interfaces.cli.train", "torch._dynamo"])

    def start(*words):
        process = context.Process(target=main, args=(list(words),))
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    rng = random.Random(1)
    words = ["llama", "hill", "sun", "grass", "friend", "happy", "walks", "sings", "finds", "under", "the", "a"]
    path.write_text("\n<|endoftext|>\n".join(" ".join(rng.choices(words, k=30)) for _ in range(300)))
    return path


def curve(out):
    log = read(out)
    steps = [(line["step"], line["loss"], line["norm"], line["rate"], line["skipped"]) for line in log.steps]
    kept = {"validation": "loss", "sample": "text", "skipped": "reason"}
    return steps, [(e["step"], e["event"], e[kept[e["event"]]]) for e in log.events if e["event"] in kept]


def weights(out):
    file = GGUF.open(out / "model.gguf")
    return {name: file.read(name).decode() for name in file.tensors}


def size(out):
    return (out / "log.jsonl").stat().st_size if (out / "log.jsonl").exists() else 0


def kill_at_random(process, out, rng):
    """Kill after a random number of steps, or at a random moment of the start; whether there was anything to kill."""
    if rng.random() < 0.2:
        process.join(rng.random() * 0.5)
    else:
        wanted = size(out) + rng.randrange(15) * 150  # bytes of the journal: about so many steps
        while size(out) < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


@pytest.mark.parametrize("optimizer", KILLS)
def test_a_killed_run_is_bitwise_the_run_that_was_not(starts, text, tmp_path, optimizer):
    command = ["train", "tiny", "--text", str(text), *TOY.split(), "--optimizer", optimizer]
    starts(*command, "--out", str(tmp_path / "straight")).join()
    killed, rng, kills = tmp_path / "killed", random.Random(optimizer), 0
    while kills < KILLS[optimizer]:
        assert kill_at_random(starts(*command, "--out", str(killed)), killed, rng), (
            "it ended before it was killed enough"
        )
        kills += 1
    starts(*command, "--out", str(killed)).join()
    assert curve(killed) == curve(tmp_path / "straight")
    assert len(curve(killed)[0]) == 400
    ours, theirs = weights(killed), weights(tmp_path / "straight")
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
