"""bench/cpu.py beside peers that only pretend to measure: who is called how, and which rows come of it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "cpu.py"
BENCH = """\
#!{python}
import json, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert words["-t"] == "1" and words["-fa"] == "1", sys.argv
row = {{"n_prompt": int(words["-p"].split(",")[-1]), "n_gen": int(words["-n"]), "n_depth": 0, "avg_ts": {speed}}}
print(json.dumps([row | {{"avg_ts": row["avg_ts"] * (2 if "-rtr" in words else 1)}}]))
"""
BATCHED = """\
#!{python}
import sys
print("| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |", file=sys.stderr)
for count in sys.argv[sys.argv.index("-npl") + 1].split(","):
    print(f"|  32 |  32 | {{count:>4}} |  256 |  0.010 |     1.00 |    1.000 |   {{count}}.50 |  1.0 |  2.00 |")
"""


def pretend(path: Path, source: str, speed: float = 0) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(source.format(python=sys.executable, speed=speed))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="peers are scripts")
def test_rows_of_every_figure(tmp_path: Path) -> None:
    cpp, ik = (pretend(tmp_path / name / "llama-bench", BENCH, speed) for name, speed in (("cpp", 30), ("ik", 20)))
    pretend(tmp_path / "cpp" / "llama-batched-bench", BATCHED)
    rows_file = tmp_path / "rows.json"
    tools = ["--llama-bench", cpp, "--ik-llama-bench", ik]
    figures = ["--models", "15m", "--types", "Q4_K", "--figures", "all", "--rounds", "1", "--threads", "1"]
    done = bench(*figures, *tools, "--folder", tmp_path, "--discard", "--json", rows_file)
    assert done.returncode == 0, done.stderr
    rows = {(row["kind"], row["tokens"], row["together"]): row for row in json.loads(rows_file.read_text())}
    assert {key for key in rows if key[1]} == {
        ("prompt", 128, 1),
        ("write", 64, 1),
        ("write", 32, 4),
        ("write", 32, 8),
        ("write", 32, 16),
    }
    prompt, batch = rows["prompt", 128, 1], rows["write", 32, 8]
    peers = {"llamero": [prompt["ours"]], "llama.cpp": [30.0], "ik_llama.cpp": [20.0], "ik_llama.cpp -rtr": [40.0]}
    assert {name: speeds for name, speeds in prompt["all"].items() if name in peers} == peers
    assert prompt["ratio"] == pytest.approx(prompt["ours"] / prompt["theirs"])
    assert prompt["share"] > 0
    assert batch["all"]["llama.cpp"] == [8.5]
    assert rows["start", 0, 1]["ours"] > 0
    assert len(done.stdout.splitlines()) == len(rows)
    assert not list(tmp_path.glob("*.gguf"))


def test_mistakes() -> None:
    done = bench("--llama-bench", "nowhere")
    assert done.returncode == 2
    assert "there is no nowhere" in done.stderr
    assert "'Q9' is none of" in bench("--types", "Q9").stderr
