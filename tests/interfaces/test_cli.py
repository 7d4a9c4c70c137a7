"""The command as a user runs it: words on stdout, figures and one-line errors on stderr, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero.formats.gguf import write_gguf
from llamero.interfaces.cli import main as cli
from llamero.interfaces.cli.terminal import figures, write
from llamero.interfaces.completion import Completion, Timings
from llamero.model.config import Config

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_names_every_command(llamero_process: Run) -> None:
    done = llamero_process("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name in cli.COMMANDS:
        assert f"  {name} " in done.stdout
    assert llamero_process().returncode == 2


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_with_examples(llamero: Run, name: str) -> None:
    done = llamero(name, "--help")
    assert done.returncode == 0
    assert "examples:\n  llamero" in done.stdout


def test_version(llamero: Run) -> None:
    assert llamero("--version").stdout.startswith("llamero 0.")


def test_mistakes_in_the_command_line(llamero_process: Run) -> None:
    done = llamero_process("rum", "hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "llamero: unknown command 'rum': did you mean 'run'?\n"
    done = llamero_process("run", "--temprature", "1", "hello")
    assert done.returncode == 2
    assert done.stderr.startswith("llamero run: unrecognized arguments: --temprature ")
    assert "did you mean '--temperature'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert llamero_process("--modle").returncode == 2


def test_help_of_one_command(llamero: Run) -> None:
    assert llamero("help", "run").stdout == llamero("run", "--help").stdout


def test_words_go_to_stdout_and_figures_to_stderr(llamero_process: Run, tale: str) -> None:
    done = llamero_process("run", "-m", "chain.gguf", "abc", "--temperature", "0")
    assert (done.returncode, done.stdout) == (0, f" {tale}\n")
    assert "prompt 4 tokens at " in done.stderr
    assert "answer 18 tokens at " in done.stderr
    assert "\x1b" not in done.stderr
    assert llamero_process("run", "-m", "chain.gguf", "abc", "--temperature", "0", "--quiet").stderr == ""


def test_every_option_of_an_answer(llamero: Run) -> None:
    words = "--max-tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --typical-p 0.9 --repeat-penalty 1.1"
    words += " --repeat-last-n 9 --presence-penalty 0.1 --frequency-penalty 0.1 --seed 4 --stop llama --stop hums"
    words += " --context 64 --threads 1 --overflow shift --cache q8_0 --device cpu"
    done = llamero("run", "-m", "chain.gguf", "abc", *words.split())
    assert (done.returncode, done.stdout) == (0, " Here is a tiny \n"), done.stderr
    assert done.stderr.rstrip().endswith("seed 4]")


def test_prompts_from_files_and_pipes(llamero: Run, tmp_path: Path, tale: str) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("abc\n")
    for words, text in ((["-f", str(file)], ""), (["-"], "abc\n"), ([], "abc\n"), (["-f", "-"], "abc")):
        done = llamero("run", "-m", "chain.gguf", "--temperature", "0", *words, text=text)
        assert (done.returncode, done.stdout) == (0, f" {tale}\n"), done.stderr
        assert "prompt 4 tokens" in done.stderr


def test_chat_format_for_one_question(llamero: Run, tale: str) -> None:
    done = llamero("run", "-m", "chatty.gguf", "--chat", "--system", "abc", "hi", "--temperature", "0")
    assert done.stdout == f"{tale}\n", done.stderr
    assert llamero("run", "-m", "chatty.gguf", "--system", "abc", "hi").returncode == 1


def test_a_text_that_is_over_at_once_points_to_the_chat_format(llamero: Run) -> None:
    asked = ("run", "Who are you?", "--temperature", "0")
    done = llamero(*asked)
    assert (done.stdout.strip(), "ask with --chat" in done.stderr) == ("", True)
    assert "--chat" not in llamero(*asked, "--quiet").stderr
    assert "--chat" not in llamero("run", "Once upon a time", "--max-tokens", "5").stderr


def test_json(llamero: Run, tale: str) -> None:
    done = llamero("run", "-m", "chain.gguf", "", "--json", "--temperature", "0")
    answer = json.loads(done.stdout)
    assert (answer["text"], answer["finish_reason"], answer["completion_tokens"]) == (tale, "stop", 18)
    assert answer["timings"]["prompt_seconds"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "nowhere.gguf", "a"], "there is no model 'nowhere.gguf'"),
        (["-m", "chain.gguf", "x" * 300], "the prompt has 302 tokens, and the context of 256"),
        (["-m", "chain.gguf", "a", "--temperature", "-1"], "temperature must be a number from 0 to 100, got -1.0"),
        (["-m", "chain.gguf", "a", "--max-tokens", "0"], "max_tokens must be a whole number from 1"),
        (
            ["-m", "chain.gguf", "a", "--context", "100000"],
            "context must be a whole number from 2 to the model's",
        ),
        (["-m", "chain.gguf", "a", "--device", "tpu"], "device 'tpu' is unknown"),
        (["-m", "chain.gguf", "a", "-f", "b"], "give the prompt as words or as a file, not both"),
        (["-m", "chain.gguf", "-f", "not-there.txt"], "run: not-there.txt: no such file or directory"),
        (["-m", "chain.gguf", "a", "--grammar", "."], "run: .: is a directory"),
        (["-m", "chain.gguf", "a", "--json-schema", "[1]"], "a schema is a JSON object, not list"),
        (["-m", "chatty.gguf", "a", "--special", "--chat"], "--special is for a text"),
        (["-m", "conftest.json", "a"], "did you mean"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(llamero: Run, words: list[str], message: str) -> None:
    done = llamero("run", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("llamero run: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr or message == "did you mean"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("keys list --keys .", ". is no file; name one for the keys"),
        ("average nowhere --out mean.gguf", "nowhere is not there"),
        ("bench chain.gguf --prompt 0 --together 100000000", "100000000 sequences at once need"),
        ("bench chain.gguf --json nowhere/figures.json", "nowhere/figures.json: no such file or directory"),
        ("plan tiny --kind h100 --devices 99999999999", "--devices must be from 1 to 1,048,576"),
        ("plan tiny --kind h100 --memory nan", "--memory must be positive, got nan"),
        ("plan tiny --kind h100 --price inf", "--price must be a number from 0 up, got inf"),
        ("run -m chatty.gguf abc --chat-template nowhere", "there is no chat format 'nowhere'"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(llamero: Run, words: str, message: str) -> None:
    done = llamero(*words.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"llamero {words.split()[0]}: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_debug_shows_where(llamero_process: Run) -> None:
    done = llamero_process("run", "-m", "nowhere.gguf", "a", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_broken_files_are_named(llamero: Run, tmp_path: Path, models: Path) -> None:
    whole = (models / "chain.gguf").read_bytes()
    for size in (3, 100, len(whole) // 2):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        for command in ("run", "inspect"):
            done = llamero(command, *(["-m"] if command == "run" else []), str(tmp_path / "cut.gguf"), text="")
            assert done.returncode == 1
            assert "cut.gguf" in done.stderr
            assert "Traceback" not in done.stderr


def test_nan_weights(llamero: Run, tmp_path: Path, chain_file: Callable[..., Path], config: Config) -> None:
    output = np.full((config.vocab, config.dim), np.nan, np.float32)
    done = llamero("run", "-m", str(chain_file(tmp_path / "nan.gguf", output=output)), "abc")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "not finite" in done.stderr
    assert "llamero inspect" in done.stderr


ENDLESS = ["run", "-m", "circle.gguf", "abc", "--max-tokens", "10000000", "--overflow", "shift", "--temperature", "0"]


def endless(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llamero", *ENDLESS]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_reader_that_goes_away_is_no_error(models: Path) -> None:
    with endless(models) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def test_ctrl_c_ends_with_130(models: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of a shell's background job ignores it
    with endless(models) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    signal.signal(signal.SIGINT, before)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_ctrl_c_while_a_command_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", interrupted)
    assert cli.main(["run", "a"]) == 130
    assert capsys.readouterr() == ("", "\n")


def test_chat_from_a_pipe(llamero: Run, tale: str) -> None:
    lines = ["abc", "/set temperature 0", "abc", "/regen", "/nope", "/exit", "never read"]
    done = llamero("chat", "-m", "chatty.gguf", "--temperature", "0", text="\n".join(lines))
    assert (done.returncode, done.stdout) == (0, f"{tale}\n" * 3), done.stderr
    assert "temperature = 0\n" in done.stderr
    assert "error: there is no command '/nope'" in done.stderr
    assert "cached" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_chat_goes_on_after_an_error(llamero: Run, tale: str) -> None:
    done = llamero("chat", "-m", "chatty.gguf", "--temperature", "0", text="x" * 300 + "\nabc\n")
    assert (done.returncode, done.stdout) == (0, f"{tale}\n")
    assert "error: the prompt has" in done.stderr
    assert "/set overflow truncate" in done.stderr


def test_chat_without_a_format_says_so(llamero: Run, tale: str) -> None:
    done = llamero("chat", "-m", "chain.gguf", "--temperature", "0", text="abc\n")
    assert done.stdout == f" {tale}\n"
    assert "knows no chat format" in done.stderr


def test_inspect_tells_everything(llamero: Run) -> None:
    done = llamero("inspect", "chatty.gguf", "--tensors", "--context", "100")
    assert done.returncode == 0, done.stderr
    for words in ("Chain", "1 layers of width 288", "4 of 32, 2 for keys", "SentencePiece BPE, 288 tokens", "</s> 2"):
        assert words in done.stdout
    for words in ("blk.0.attn_q.weight", "288 x 288", "at a context of 100", "q8_0 13.28 KiB", "F32", "custom"):
        assert words in done.stdout


def test_inspect_as_json(llamero: Run) -> None:
    done = llamero("inspect", "chain.gguf", "--json", "--hash")
    report = json.loads(done.stdout)
    assert report["config"]["dim"] == 288
    assert report["problem"] is None
    assert len(report["tensors"]) == 12
    assert report["memory"]["cache"] == {"f16": 65536, "q8_0": 34816, "f32": 131072}
    assert report["tokenizer"]["bos"] == {"id": 1, "text": "<s>"}
    assert len(report["hash"]) == 64


def test_the_hash_is_of_the_weights_alone(
    llamero: Run, tmp_path: Path, chain_file: Callable[..., Path], config: Config
) -> None:
    same = chain_file(tmp_path / "same.gguf", "{{ messages }}")
    norm = np.full(config.dim, 1.001, np.float32)
    other = chain_file(tmp_path / "other.gguf", norm=norm)
    hashes = [llamero("inspect", str(path), "--hash").stdout.splitlines()[-1] for path in ("chain.gguf", same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(len(text) == 64 and int(text, 16) for text in hashes)


def test_inspect_shows_what_cannot_run(llamero: Run, tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", {"general.architecture": "mamba", "general.name": "Snake"}, [])
    done = llamero("inspect", str(tmp_path / "other.gguf"))
    assert done.returncode == 0
    assert "Snake" in done.stdout
    assert "architecture mamba" in done.stdout
    assert "problem" in done.stdout
    report = json.loads(llamero("inspect", str(tmp_path / "other.gguf"), "--json").stdout)
    assert report["problem"]
    assert report["config"] is None


def test_a_terminal_is_not_obeyed_by_models(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write("a\x1b]0;title\x07b\n\t\x9b31m")
    assert capsys.readouterr().out == "a\ufffd]0;title\ufffdb\n\t\ufffd31m"


def test_figures_say_why_it_ended() -> None:
    def tell(**changed: Any) -> str:
        times = Timings(prompt_seconds=1, prompt_per_second=8, completion_seconds=2, completion_per_second=4.5)
        values: dict[str, Any] = {"text": "", "ids": (), "stop": None, "seed": 3, "timings": times, "logprobs": None}
        values |= {"finish_reason": "stop", "prompt_tokens": 8, "completion_tokens": 9, "cached_tokens": 0}
        return figures(
            Completion(**(values | {"dropped_tokens": 0, "drafted_tokens": 0, "accepted_tokens": 0} | changed)), 20
        )

    assert tell() == "[prompt 8 tokens at 8.0/s; answer 9 tokens at 4.5/s; seed 3]"
    assert "8 tokens (5 cached) at" in tell(cached_tokens=5)
    assert "stopped at max_tokens" in tell(finish_reason="length")
    assert "the context of 20 is full" in tell(finish_reason="length", completion_tokens=12)
    assert "3 oldest tokens left out" in tell(dropped_tokens=3)
    assert "; stopped; " in tell(finish_reason=None)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("run -m chain.gguf abc -n 3 >&-", 0, "answer 3 tokens"),
        ("run -m chain.gguf -n 3 <&-", 0, "prompt 1 tokens"),
        ("run -m chain.gguf abc -n 3 2>&-", 0, ""),
        ("--help >/dev/full", 1, "llamero: no space left on device"),
        ("inspect chain.gguf >/dev/full", 1, "llamero inspect: no space left on device"),
    ],
)
def test_streams_that_are_closed_or_full(models: Path, words: str, code: int, said: str) -> None:
    line = f"'{sys.executable}' -m llamero {words}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=models, timeout=60)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["inspect", "chain.gguf", "--tensors"]])
def test_a_reader_that_has_gone(models: Path, words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "llamero", *words], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=models
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_characters_that_the_terminal_lacks(llamero_process: Run, models: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = llamero_process("inspect", str(models / "nothing"), "--json", env=env)
    assert done.returncode == 1
    done = llamero_process("tokenizer", "show", "chain.gguf", "a b", env=env)
    assert done.returncode == 0, done.stderr
    assert "\\u2423" in done.stdout


def test_help_is_quick() -> None:
    """`--help` imports neither numpy nor anything larger; the time bound is loose because the machine may be busy."""
    start = time.perf_counter()
    code = "from llamero.interfaces.cli.main import main; import sys; main(['-h']); print(sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "numpy" not in done.stderr
    assert time.perf_counter() - start < 2
