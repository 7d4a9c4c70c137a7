"""bench/serve.py with a model of the smallest shape: our server and the bare scheduler, and the figures of streams."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_figures_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from serve_load import Heard, Outcome

    streams = [Heard(10, [11, 12, 14], 100, 60, 4), Heard(10.5, [13.5, 15], 50, 0, 2)]
    figures = Outcome(streams, 1.5).figures()
    assert figures["tokens/s"] == pytest.approx(6 / 5)
    assert figures["first"] == pytest.approx(2.9)
    assert figures["between"] == pytest.approx(1.5)
    assert (figures["longest"], figures["read"], figures["cpu"]) == (2, 90, 1.5)


@pytest.mark.long
def test_server_and_scheduler_answer_all_users(tmp_path: Path) -> None:
    words = ["--users", "3", "--model", "15m", "--type", "Q8_0", "--answer", "5", "--longest", "150", "--threads", "1"]
    out = tmp_path / "rows.json"
    command = [sys.executable, str(BENCH / "serve.py"), *words, "--folder", str(tmp_path), "--json", str(out)]
    done = subprocess.run(
        [*command, "--only", "bare,llamero"], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [row["who"] for row in rows] == ["bare", "llamero"]
    for row in rows:
        assert row["tokens"] == 15
        assert 0 < row["first"] < 100
    assert rows[0]["prompt tokens"] == rows[1]["prompt tokens"]
