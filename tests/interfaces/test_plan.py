"""Tests of `llamero plan`: what is printed, as text and as JSON, and refusals that say what would fit."""

import json
import subprocess
import sys

import pytest

from llamero.interfaces.cli.main import main


def llamero(words):
    return main(words.split())


def test_a_plan_on_a_screen(capsys):
    assert llamero("plan llama-1-65b --kind a100 --devices 2048 --tokens 1.4T --price 2") == 0
    text = capsys.readouterr().out
    for words in (
        "65.29 G weights",
        "of 72.7 that can be used",
        "48.5% of the peak",
        "20.8 days; 1,023,339.5 device",
        "copy ",
    ):
        assert words in text
    assert "cost        2,046,678.99" in text


def test_a_plan_as_json(capsys):
    assert llamero("plan llama-3.1-8b --kind h100 --layout shard=8 --price 3 --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["way"]["layout"] == {"replicate": 1, "shard": 8, "context": 1, "tensor": 1}
    assert told["cost"] == 3 * told["device_hours"]
    assert told["remedies"] == []


def test_what_does_not_fit_is_told_with_what_would(capsys):
    assert llamero("plan llama-3.1-8b --kind h100 --batch 524288") == 1
    told = capsys.readouterr()
    assert "optimizer       59.830 GiB" in told.out
    assert "72.7 can be used, most for optimizer (59.8 GiB). What would fit: 2 devices" in told.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan llama-3.1-8bb --kind h100", "did you mean 'llama-3.1-8b'"),
        ("plan llama-3.1-8b --kind h1000", "did you mean 'h100'"),
        ("plan llama-3.1-8b --kind h100 --layout shards=8", "did you mean 'shard'"),
        ("plan llama-3.1-8b --kind h100 --layout tensor=16", "the largest below that does: 8"),
        ("plan llama-3.1-8b --kind h100 --devices 0", "must be from 1 to 1,048,576, got 0"),
    ],
)
def test_mistakes_are_named(capsys, words, message):
    assert llamero(words) == 1
    assert message in capsys.readouterr().err


def test_this_machine_is_measured(capsys):
    assert llamero("plan 15m --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["hardware"]["kind"] == "cpu"
    assert told["hardware"]["peak"] > 1e9
    assert told["speed"] > 0


def test_planning_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from llamero.interfaces.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "plan", "llama-2-7b", "--kind", "a100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "does not fit: 10" in done.stderr
