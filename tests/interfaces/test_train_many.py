"""The same command in several processes: as one process learns, within rounding, and going on in one."""

import subprocess
import sys

import pytest

from llamero import Llama
from llamero.interfaces.cli.main import main
from llamero.training.journal import read

TOY = (
    "--dim 32 --layers 2 --heads 2 --kv-heads 2 --head-dim 16 --ffn-dim 48 --vocab 300 --context 32 "
    "--batch 128 --steps 24 --validate-every 8 --sample-every 12 --save-every 8 --dtype f32 --threads 1"
)


def test_two_processes_learn_as_one_does_and_one_goes_on(tmp_path):
    text = tmp_path / "stories.txt"
    text.write_text("".join(f"A llama walks up hill {i % 77} and sings.\n<|endoftext|>\n" for i in range(500)))
    words = ["train", "tiny", "--text", str(text), *TOY.split()]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "llamero", *words, "--out", str(tmp_path / "two")]
    done = subprocess.run(
        [*command, "--layout", "shard=2", "--until", "16"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("the same command goes on") == 1  # one process speaks
    assert main([*words, "--out", str(tmp_path / "two")]) == 0
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert [line["step"] for line in two.steps] == list(range(1, 25))
    for ours, theirs in zip(one.steps, two.steps, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    losses = [[e["loss"] for e in log.events if e["event"] == "validation"] for log in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(losses[0]) == 3
    with Llama(tmp_path / "two" / "model.gguf") as llama:
        assert llama.config.layers == 2


def test_a_layout_of_other_processes_is_refused(tmp_path, capsys):
    text = tmp_path / "stories.txt"
    text.write_text("A llama. " * 500)
    assert (
        main(["train", "tiny", "--text", str(text), "--out", str(tmp_path / "r"), "--layout", "shard=2", *TOY.split()])
        == 1
    )
    assert "is for 2 processes and there are 1" in capsys.readouterr().err
