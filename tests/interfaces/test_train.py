"""Tests of `llamero train`: what a newcomer types, what is shown, and mistakes."""

import json
import subprocess
import sys

import pytest

from llamero.interfaces.cli import train as command
from llamero.interfaces.cli.main import main

TOY = (
    "--dim 32 --layers 1 --heads 2 --kv-heads 1 --head-dim 16 --ffn-dim 32 --vocab 280 --context 32 --batch 64 "
    "--steps 6 --threads 1"
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("".join(f"A llama walks up hill {i} and sings {i % 9} songs.\n<|endoftext|>\n" for i in range(300)))
    return str(path)


def test_a_model_is_raised_and_speaks(text, tmp_path, capsys):
    out = tmp_path / "my"
    assert main(["train", "tiny", "--text", text, "--out", str(out), "--until", "4", *TOY.split()]) == 0
    assert "the same command goes on" in capsys.readouterr().err
    assert main(["train", "tiny", "--text", text, "--out", str(out), *TOY.split()]) == 0
    shown = capsys.readouterr()
    assert "going on after step 4" in shown.err
    assert f"wrote {out / 'model.gguf'}" in shown.err
    assert "layers 1" in shown.out
    assert "held-out loss" in shown.out
    assert "sample: " in shown.out
    assert main(["run", "-m", str(out / "model.gguf"), "A llama", "-n", "3", "--quiet"]) == 0
    assert json.loads((out / "run.json").read_text())["settings"]["layers"] == 1


@pytest.mark.filterwarnings("default")
def test_a_broken_checkpoint_is_told_as_all_else_is(text, tmp_path, capsys):
    words = ["train", "tiny", "--text", text, "--out", str(tmp_path / "my"), "--save-every", "2", *TOY.split()]
    assert main([*words, "--until", "4"]) == 0
    (broken,) = (tmp_path / "my").rglob("step-00000004/*.safetensors")
    broken.write_bytes(broken.read_bytes()[:-1])
    capsys.readouterr()
    assert main(words) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "newer checkpoint" in line)
    assert line.startswith("going on from ")


def test_a_run_goes_on_when_nobody_reads_what_it_says(text, tmp_path):
    out = tmp_path / "my"
    words = [sys.executable, "-m", "llamero", "train", "tiny", "--text", text, "--out", str(out), *TOY.split()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        run.stdout.readline()
        run.stdout.close()
    assert run.returncode == 0
    assert (out / "model.gguf").exists()


def test_a_preset_is_shown_without_torch():
    code = "import sys; from llamero.interfaces.cli.main import main; main(sys.argv[1:])"
    code += "; assert 'torch' not in sys.modules"
    words = ["train", "llama-2-7b", "--list", "--steps", "100"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    for said in ("rate 0.0003", "batch 4194304", "epsilon 1e-05", "steps 100", "warmup 10", "context 4096"):
        assert said in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tinny", "--text", "a", "--out", "b"], "did you mean 'tiny'"),
        (["tiny", "--text", "nowhere.txt", "--out", "b"], "nowhere.txt"),
        (["tiny", "--text", "a"], "--out DIR"),
        (["tiny", "--out", "b"], "--text or --shards"),
        (["tiny", "--text", "a", "--shards", "c", "--out", "b"], "--text or --shards"),
        (["tiny", "--text", "a", "--out", "b", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["tiny", "--text", "a", "--out", "b", "--warmup", "9000"], "warm-up (9000)"),
        (["tiny", "--text", "a", "--out", "b", "--threads", "0"], "threads must be at least 1, got 0"),
        (["tiny", "--text", "a", "--out", "b", "--until", "-5"], "until must be at least 1, got -5"),
        (["tiny", "--text", "a", "--out", "b", "--workers", "0"], "at least one worker, got 0"),
        (["tiny", "--text", "a", "--out", "b", "--device", "tpu"], "device 'tpu' is unknown"),
        (["tiny", "--text", "a", "--out", "b", "--device", "cuda:99"], "device 'cuda:99' cannot be used"),
    ],
)
def test_mistakes_are_one_clear_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_too_large_a_model_is_told_before_and_when_memory_ends(text, tmp_path, capsys):
    words = f"--text {text} --out {tmp_path / 'my'} {TOY} --dim 32768 --ffn-dim 2147483647"  # beyond all addresses
    assert main(["train", "tiny", *words.split()]) == 1
    *_, warned, ended = capsys.readouterr().err.splitlines()
    assert warned.startswith("this run may not fit: about ")
    assert ended.startswith("llamero train: out of memory: a smaller --micro, ")


def test_a_folder_of_texts_is_as_large_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_LARGE", 10)
    (tmp_path / "a.txt").write_text("12345")
    assert not command.large([str(tmp_path)])
    (tmp_path / "b.txt").write_text("1234567")
    assert command.large([str(tmp_path)])
    assert command.large([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert not command.large([str(tmp_path / "nowhere")])


def test_an_unknown_flag_is_refused_with_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["train", "tiny", "--stepz", "3"])
    assert "did you mean '--steps'" in capsys.readouterr().err
