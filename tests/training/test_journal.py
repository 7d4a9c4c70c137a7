"""Tests of training/journal.py: what is written reads back, kills tear nothing, a run that goes on has one curve."""

import json
import math
import os
import resource
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import FormatError, ModelNotFound, SettingError
from llamero.training.journal import NAME, Journal, read

WRITER = """
import sys
from pathlib import Path
from llamero.training.journal import Journal
journal, step = Journal(Path(sys.argv[1])), 0
while True:
    step += 1
    journal.write(step, loss=1 / step, text="x" * (step % 5000))
    print(step, flush=True)
"""


def steps(path):
    return [entry["step"] for entry in read(path).steps]


@given(st.lists(st.floats(width=64), min_size=1, max_size=5))
def test_floats_read_back_with_the_same_bits(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("run")
    journal = Journal(folder)
    for step, value in enumerate(values, 1):
        journal.write(step, loss=value)
    for value, entry in zip(values, read(folder).steps, strict=True):
        found = entry["loss"]
        assert struct.pack("<d", found) == struct.pack("<d", value) or (math.isnan(found) and math.isnan(value))


def test_every_line_is_strict_json(tmp_path):
    journal = Journal(tmp_path)
    journal.write(1, loss=math.nan, norm=-math.inf, rate=np.float32(0.1), documents=[math.inf, np.int64(3)])
    journal.event("sample", 1, prompt="NaN", text='{"\n\x1b[2J\u2028 \ud800')

    def refuse(name):
        raise AssertionError(name)

    lines = (tmp_path / NAME).read_text().split("\n")
    first, second = (json.loads(line, parse_constant=refuse) for line in lines[:-1])
    assert lines[-1] == ""
    assert (first["loss"], first["norm"], first["documents"]) == ("NaN", "-Infinity", ["Infinity", 3])
    assert first["rate"] == float(np.float32(0.1))
    assert second["text"] == '{"\n\x1b[2J\u2028 ?'
    log = read(tmp_path)
    assert log.steps[0]["norm"] == -math.inf
    assert log.events[0]["prompt"] == "NaN"


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    journal = Journal(tmp_path)
    for step in (1, 2):
        journal.write(step, loss=2.0)
        assert steps(tmp_path) == list(range(1, step + 1))


def test_a_run_that_goes_on_has_one_curve(tmp_path):
    first = Journal(tmp_path)
    for step in range(1, 8):
        first.write(step, loss=float(step))
        if step in (3, 5):
            first.event("validation", step, loss=1.0)
    again = Journal(tmp_path, step=4)
    assert steps(tmp_path)[-1] == 7, "a journal that nobody writes to is left alone"
    again.event("resumed", 4)
    assert steps(tmp_path) == [1, 2, 3, 4]
    again.write(5, loss=50.0)
    log = read(tmp_path)
    assert [entry["loss"] for entry in log.steps] == [1, 2, 3, 4, 50]
    assert [(entry["event"], entry["step"]) for entry in log.events] == [("validation", 3), ("resumed", 4)]
    Journal(tmp_path).write(1, loss=0.0)  # from the start: no checkpoint was whole
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3}', b"\0" * 300, b"\xff\n", b"\n\n", b"[3]\n"])
def test_what_a_kill_or_a_loss_of_power_left_at_the_end_is_cut(tmp_path, torn):
    journal = Journal(tmp_path)
    journal.write(1, loss=1.0)
    journal.write(2, loss=2.0)
    with (tmp_path / NAME).open("ab") as file:
        file.write(torn)
    Journal(tmp_path, step=2).write(3, loss=3.0)
    assert [entry["loss"] for entry in read(tmp_path).steps] == [1, 2, 3]


def test_a_kill_loses_no_written_step(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while int(process.stdout.readline()) < 40:
            pass
        os.kill(process.pid, signal.SIGKILL)
        told = [40, *map(int, process.stdout.read().split())]
    found = steps(tmp_path)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= told[-1]


def test_steps_go_forward(tmp_path):
    journal = Journal(tmp_path, step=4)
    with pytest.raises(SettingError, match="step 3 cannot be written after step 4"):
        journal.write(3, loss=1.0)
    assert not (tmp_path / NAME).exists()


def test_only_who_leads_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal(None)
    journal.write(1, loss=1.0)
    journal.sync()
    journal.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_file(tmp_path):
    journal = Journal(tmp_path)
    journal.write(1, loss=1.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80, before[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/{NAME}'"):
            journal.write(2, loss=2.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / NAME).stat().st_size == 80, "a part of the line was written"
    Journal(tmp_path, step=1).write(2, loss=2.0)
    assert steps(tmp_path) == [1, 2]


def test_what_is_no_journal_is_refused(tmp_path):
    with pytest.raises(ModelNotFound, match="no journal of a run"):
        read(tmp_path)
    path = tmp_path / "odd.jsonl"
    path.write_text('{"step": 1}\n{"text": "a corpus"}\n{"step": 2}\n')
    with pytest.raises(FormatError, match="line 2 is not a JSON object with a step"):
        read(path)
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert steps(path) == [1]
