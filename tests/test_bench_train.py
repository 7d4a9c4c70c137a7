"""bench/train.py with ourselves as the only contestant: it searches, measures, tells and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "train.py"
QUICK = ["--shapes", "stories-260k", "--context", "32", "--sequences", "2", "--seconds", "0.01", "--threads", "1"]


def bench(*arguments):
    command = [sys.executable, SCRIPT, *QUICK, "--only", "llamero", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_settings_are_looked_for_and_measured(tmp_path):
    rows = tmp_path / "rows.json"
    done = bench("--micros", "2", "--rounds", "1", "--json", rows)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(rows.read_text())
    entry = row["contestants"]["llamero"]
    assert {each["way"]["dtype"] for each in row["tried"]["llamero"]} == {"bf16", "f32"}
    assert entry["speed"] == entry["all"][0] > 0
    top = row["peak"]["bf16"] if entry["way"]["dtype"] == "bf16" and row["peak"]["bf16"] else row["peak"]["f32"]
    # products: layers' matrices and the head; attention's half of all pairs
    matrices = 5 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 172 * 64) + 512 * 64
    assert entry["share"] == pytest.approx(entry["speed"] * 6 * (matrices + 5 * 64 * 32) / top)
    assert "llamero" in done.stdout


def test_known_settings_are_not_looked_for_again(tmp_path):
    ways = tmp_path / "ways.json"
    way = {"dtype": "f32", "micro": 1, "compile": False}
    ways.write_text(json.dumps([{"shape": "stories-260k", "contestants": {"llamero": {"way": way}}}]))
    done = bench("--ways", ways, "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "f32, 1 at once" in done.stdout


def test_settings_that_fail_are_told():
    done = bench("--micros", "3", "--rounds", "1")
    assert "llamero (bf16, 3 at once) fails: 2 sequences are not whole times 3" in done.stdout
    assert "tokens/s" not in done.stdout
