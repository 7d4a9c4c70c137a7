"""Tests of what watches a run: its standing, the live view, the forecast, TensorBoard, Weights & Biases."""

import io
import math
import mmap
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from llamero.errors import SettingError
from llamero.interfaces.cli.live import LiveTerminal, clock, view
from llamero.interfaces.cli.watching import Several
from llamero.interfaces.forecasting import Forecasting
from llamero.interfaces.standing import Standing
from llamero.interfaces.trackers import TensorBoard, WeightsAndBiases
from llamero.ops.limits import Limits
from llamero.training.listener import Listener
from llamero.training.loop import Report
from llamero.training.planning.forecast import forecast, recipe_of
from llamero.training.planning.gauge import Gauge, hardware_here
from llamero.training.planning.hardware import cpu
from llamero.training.planning.operations import training_operations
from llamero.training.presets import PRESETS
from llamero.training.team.layout import Layout

HARDWARE = cpu(Limits(read=1e10, int8=1e12, bf16=None, f32=1e12), memory=8e9)
TINY = replace(PRESETS["tiny"], dtype="f32")
SETTINGS = {"settings": TINY.flat()}


def report(step, loss=2.0, skipped=""):
    return Report(step, loss, norm=1.0, rate=1e-3, tokens=1000, seconds=0.5, skipped=skipped)


def shown(standing, memory=0.0, width=90):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(view(standing, memory, width))
    return console.file.getvalue()


def test_the_recipe_is_what_run_json_says():
    for recipe in PRESETS.values():
        assert recipe_of(recipe.flat()) == recipe


def test_figures_of_a_run():
    times = iter([0.0, 10.0, 30.0])
    standing = Standing(lambda: HARDWARE, now=lambda: next(times))
    standing.begin(SETTINGS, 100)
    for step in range(101, 111):
        standing.step(report(step, loss=float(step)))
    assert standing.speed == 2000
    assert standing.share == pytest.approx(2000 * training_operations(TINY.model, 256) / 1e12)
    assert standing.left == pytest.approx(20.0 / 10 * (TINY.steps - 110))
    assert 105 < standing.smooth < 107, "the mean of 101 to 110, later ones heavier"
    assert standing.curve == [(step, step) for step in range(101, 111)]


def test_a_long_run_keeps_a_small_curve():
    standing = Standing()
    for step in range(1, 100_001):
        standing.step(report(step, loss=math.nan if step == 500 else 1e5 - step))
    assert len(standing.curve) < 400
    steps = [step for step, _ in standing.curve]
    assert steps == sorted(steps)
    for step, loss in standing.curve[1:]:
        assert loss == pytest.approx(1e5 - step, abs=steps[1] - steps[0])


def test_the_view_shows_all_figures_and_obeys_no_sample():
    standing = Standing(lambda: HARDWARE, now=iter([0.0, 0.0, 5.0]).__next__)
    standing.begin(SETTINGS, 0)
    for step in range(1, 6):
        standing.step(report(step, loss=3 - step / 10, skipped="loss" if step == 2 else ""))
    standing.event("validation", 5, {"loss": 2.75})
    standing.event("sample", 5, {"text": "[bold]Once\x1b]0;owned\x07\x9b2J\r\nupon"})
    text = shown(standing, memory=2**30)
    for words in (
        "step 5 of 1,500",
        "loss 2.5000",
        "2,000 tokens/s",
        "of the peak",
        "memory 1.00 GiB",
        "24 min 55 s left",
    ):
        assert words in text
    assert "1 skipped" in text
    assert "held-out loss 2.7500 after step 5" in text
    assert "[bold]Once\ufffd]0;owned\ufffd\ufffd2J\ufffd" in text, "no markup, no escapes"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert any("\u2801" <= letter <= "\u28ff" for letter in text), "the curve"
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines())) <= 90
    assert "on its way" in shown(Standing())


def test_a_live_view_draws_beside_the_run_and_ends():
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True)
    live = LiveTerminal(lambda: 0.0, lambda: HARDWARE, console=console)
    live.begin(SETTINGS, 7)
    for step in range(8, 12):
        live.step(report(step))
    live.event("skipped", 11, {"reason": "the loss is \x1b[2Jnan", "documents": []})
    live.close()
    text = console.file.getvalue()
    assert "going on after step 7" in text
    assert "step 11 of 1,500" in text
    assert "\x1b[2Jnan" not in text
    assert text.rindex("\x1b[?25h") > text.index("\x1b[?25l"), "the cursor is back"


def test_a_step_costs_the_run_almost_nothing():
    live = LiveTerminal(lambda: 0.0, console=Console(file=io.StringIO(), force_terminal=True))
    import time

    live.standing.begin(SETTINGS, 0)
    began = time.process_time()
    for step in range(1, 10_001):
        live.step(report(step))
    assert (time.process_time() - began) / 10_000 < 1e-4


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (65, "1 min 5 s"), (7260, "2 h 1 min"), (200_000, "2 d 7 h")]
)
def test_clock(seconds, words):
    assert clock(seconds) == words


def test_all_are_told():
    heard = []

    class Ear(Listener):
        def step(self, report):
            heard.append(report.step)

        def note(self, text):
            heard.append(text)

    both = Several([Ear(), Ear()])
    both.step(report(3))
    both.note("x")
    with both.stage("work", "runs") as told:
        told(1, 2)
    assert heard == [3, 3, "x", "x"]


def test_the_forecast_stands_beside_what_is_measured():
    said = []
    listener = Forecasting(lambda: HARDWARE, Layout(), lambda: 123e6, said.append)
    listener.ready(SETTINGS)
    planned = forecast(TINY, HARDWARE)
    for step in range(1, 40):
        listener.step(report(step))
    (line,) = said
    assert f"forecast {planned.speed:,.0f} tokens/s, measured 2,000 ({2000 / planned.speed - 1:+.0%}" in line
    assert f"memory forecast {planned.memory.total / 1e6:,.0f} MB of arrays, measured 123 resident" in line


def test_a_run_that_may_not_fit_is_warned_of():
    said = []
    Forecasting(lambda: replace(HARDWARE, memory=1e6), Layout(), lambda: 0.0, said.append).ready(SETTINGS)
    assert re.search("may not fit: about .* --recompute 1 takes less", said[0])


def test_memory_and_limits_of_this_machine():
    gauge = Gauge("cpu")
    with mmap.mmap(-1, 1 << 26) as block:  # pages of its own: the allocator may hold freed ones
        block.write(b"1" * len(block))
        assert 0.9 * len(block) < gauge.peak() < 3 * len(block)
    assert hardware_here("cpu").peak["f32"] > 1e9


def test_tensorboard_has_the_curve_and_one_only(tmp_path):
    pytest.importorskip("tensorboard")
    for first, last in ((0, 5), (3, 6)):  # killed after step 5, goes on after step 3
        writer = TensorBoard(tmp_path)
        writer.begin(SETTINGS, first)
        for step in range(first + 1, last + 1):
            writer.step(report(step, loss=10.0 * first + step))
        writer.event("validation", last, {"loss": 1.5})
        writer.step(report(last + 1, loss=math.nan))
        writer.close()
    code = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as A\n"
        "a = A(sys.argv[1]); a.Reload()\n"
        "print([(e.step, e.value) for e in a.Scalars('train/loss')], [e.step for e in a.Scalars('held_out/loss')])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "tensorboard")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[(1, 1.0), (2, 2.0), (3, 3.0), (4, 34.0), (5, 35.0), (6, 36.0)] [6]"


@pytest.mark.peers
def test_weights_and_biases_offline(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from llamero.interfaces.trackers import WeightsAndBiases\n"
        "from llamero.training.loop import Report\n"
        "for first in (0, 3):\n"
        "    told = WeightsAndBiases(Path(sys.argv[1]), 'demo'); told.begin({'settings': {'dim': 3}}, first)\n"
        "    told.step(Report(first + 1, 2.5, 1.0, 1e-3, 10, 0.5))\n"
        "    told.event('validation', first + 1, {'loss': 2.0})\n"
        "    told.close()\n"
    )
    surroundings = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    subprocess.run(command, env=surroundings, check=True, capture_output=True, timeout=120)
    runs = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    name = (tmp_path / "wandb" / "id").read_text()
    assert runs, "something was kept"
    assert all(name in run for run in runs), "it is one run, before and after"
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize("make", [TensorBoard, lambda folder: WeightsAndBiases(folder, "demo")])
def test_a_missing_library_is_told_with_its_remedy(make, tmp_path, monkeypatch):
    for name in ("tensorboard", "tensorboard.compat.proto", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingError, match=r'needs (tensorboard|wandb).*: pip install "llamero\[track\]"'):
        make(tmp_path)
