"""The training command under torchrun: a process that is killed costs a restart, and nothing of the run."""

import random
import subprocess
import sys

import pytest

from llamero.interfaces.cli.main import main
from llamero.training.checkpoints.checkpoint import newest_whole
from llamero.training.journal import read

SETTINGS = {
    "dim": 32, "layers": 2, "heads": 2, "kv-heads": 2, "head-dim": 16, "ffn-dim": 48, "vocab": 300, "context": 32,
    "batch": 128, "steps": 12, "save-every": 4, "validate-every": 6, "sample-every": 0, "dtype": "f32", "threads": 1,
}  # fmt: skip

# What torchrun starts: the command itself, and in a run's first life a process that dies after some steps.
COMMAND = """
import os, signal, sys, threading, time
from pathlib import Path
from llamero.interfaces.cli.main import main

def die():
    while not Path(sys.argv[1], "checkpoints/step-00000004/manifest.json").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    threading.Thread(target=die, daemon=True).start()
raise SystemExit(main(sys.argv[2:]))
"""


@pytest.mark.long
def test_torchrun_starts_a_killed_run_again_and_it_goes_on(tmp_path):
    rng = random.Random(0)
    words = ["llama", "hill", "sun", "grass", "friend", "happy", "walks", "sings", "finds", "under", "the", "a"]
    told = [" ".join(rng.choices(words, k=30)).capitalize() + "." for _ in range(300)]
    (tmp_path / "stories.txt").write_text("\n<|endoftext|>\n".join(told))
    (tmp_path / "command.py").write_text(COMMAND)
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    command = ["train", "tiny", "--text", str(tmp_path / "stories.txt"), *options, "--out"]
    assert main([*command, str(tmp_path / "one")]) == 0
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    start += ["--monitor-interval=0.1", str(tmp_path / "command.py"), str(tmp_path / "two"), *command]
    done = subprocess.run(
        [*start, str(tmp_path / "two"), "--layout", "tensor=2"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert "going on after step" in done.stderr
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert [line["step"] for line in two.steps] == list(range(1, 13))
    assert [line["loss"] for line in two.steps] == pytest.approx([line["loss"] for line in one.steps], rel=1e-6)
    assert newest_whole(tmp_path / "two" / "checkpoints").state.step == 12
    assert (tmp_path / "two" / "model.gguf").stat().st_size > 10_000
