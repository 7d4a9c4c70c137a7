"""`llamero bench`: what it counts, says and refuses. How fast anything is, no test asks."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import SettingError
from llamero.formats.open import open_model_file
from llamero.interfaces import benchmark as benchmark_module
from llamero.interfaces.benchmark import Plan, benchmark
from llamero.interfaces.demand import demand_of
from llamero.interfaces.models import find_model
from llamero.model.weights import config_of
from llamero.ops.limits import Limits

Run = Callable[..., subprocess.CompletedProcess[str]]

LIMITS = Limits(read=1e9, int8=4e12, bf16=None, f32=1e12)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are measured once, and the machine's limits are known."""
    monkeypatch.setattr(benchmark_module, "_LEAST", 1e-6)
    monkeypatch.setattr(benchmark_module, "_SHORT", 1e-6)
    monkeypatch.setattr(benchmark_module, "measure_limits", lambda _ops: LIMITS)


@pytest.mark.usefixtures("quick")
def test_every_figure_has_a_speed_and_a_share() -> None:
    told: list[tuple[int, int]] = []
    plan = Plan(prompts=(16, 40), write=3, together=(1, 3), after=(70, 0), rounds=2)
    measured = benchmark(find_model(None), plan, threads=1, progress=lambda *counts: told.append(counts))
    assert [(f.kind, f.tokens, f.together, f.after) for f in measured.figures] == [
        ("prompt", 16, 1, 0),
        ("prompt", 40, 1, 0),
        ("write", 3, 1, 0),
        ("write", 3, 3, 0),
        ("write", 3, 1, 70),
        ("write", 3, 3, 70),
    ]
    assert told == [(done, 12) for done in range(1, 13)]
    assert measured.threads == 1
    assert measured.opening > 0
    assert measured.memory is None or measured.memory > 1e6
    for figure in measured.figures:
        assert len(figure.speeds) == len(figure.limits) == 2
        assert figure.speed > 0
        limit = LIMITS.int8 if figure.kind == "prompt" else LIMITS.read
        assert figure.share == pytest.approx(sum(figure.speeds) / 2 * figure.cost / limit)


@pytest.mark.usefixtures("quick")
def test_steps_read_and_write_what_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[list[tuple[int, int]]] = []  # of each share: tokens held before, tokens read
    step = benchmark_module.Engine.step

    def watched(engine: Any, shares: Any) -> Any:
        steps.append([(sequence.held, count) for sequence, count in shares])
        logits = step(engine, shares)
        assert len(logits) == len(shares)
        return logits

    monkeypatch.setattr(benchmark_module.Engine, "step", watched)
    benchmark(find_model(None), Plan((20,), write=2, together=(2,), after=(5,), rounds=1), threads=1)
    assert steps == [
        [(0, 20)],  # warming up
        [(0, 20)],  # the prompt
        [(0, 5)],  # the first sequence is rewound, the second is new
        [(5, 1), (5, 1)],
        [(6, 1), (6, 1)],
    ]


def test_demand_counts_the_output_once(chain_file: Callable[..., Path], tmp_path: Path, config: Any) -> None:
    with_output = open_model_file(chain_file(tmp_path / "chain.gguf"))
    demand = demand_of(with_output, config_of(with_output))
    layer = sum(math.prod(shape) for name, shape in config.shapes().items() if "layers" in name and len(shape) == 2)
    assert (demand.type, demand.unit) == ("F32", "f32")
    assert demand.operations == 2 * layer
    assert demand.weights == 4 * (layer + config.vocab * config.dim)
    kv = 2 * 2 * config.layers * config.kv_heads * config.head_dim
    assert demand.step(3, 10, "f16") == demand.weights + 3 * 10 * kv
    with_output.close()


def test_demand_of_a_tied_file_of_blocks() -> None:
    reader = open_model_file(find_model(None))
    demand = demand_of(reader, config_of(reader))
    matrices = sum(info.nbytes for info in reader.tensors.values() if len(info.shape) == 2)
    untied = "output.weight" in reader.tensors
    assert demand.unit == "int8"
    assert demand.weights == matrices - (reader.tensors["token_embd.weight"].nbytes if untied else 0)
    reader.close()


@pytest.mark.parametrize(
    "wrong", [{"prompts": (-1,)}, {"write": -1}, {"together": (0,)}, {"rounds": 0}, {"prompts": (0,), "write": 0}]
)
def test_impossible_plans(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        Plan(**wrong)


@pytest.mark.usefixtures("quick")
def test_the_command_prints_a_table(llamero: Run, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    words = ["--prompt=8", "--write=2", "--together=1,2", "--after=0,4", "--rounds=1", "--threads=1"]
    done = llamero("bench", "chain.gguf", *words, "--json", str(file))
    assert done.returncode == 0, done.stderr
    for text in ("chain.gguf, most weights F32", "1 threads", "reads 1.0 GB/s", "prompt of 8", "writing 2 "):
        assert text in done.stdout
    assert "writing 2, 2 at once, after 4 " in done.stdout
    assert len(json.loads(file.read_text())["figures"]) == 5


@pytest.mark.usefixtures("quick")
def test_json_alone(llamero: Run) -> None:
    done = llamero("bench", "chain.gguf", "--prompt", "0", "--write", "2", "--rounds", "1", "--json", "-")
    told = json.loads(done.stdout)
    assert told["limits"]["read"] == LIMITS.read
    assert told["demand"]["unit"] == "f32"
    (figure,) = told["figures"]
    assert (figure["kind"], figure["limit"]) == ("write", "read")
    assert figure["share"] == pytest.approx(figure["speed"] * figure["cost"] / LIMITS.read)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("nowhere.gguf", 1, "there is no model 'nowhere.gguf'"),
        ("chain.gguf --prompt 257", 1, "257 tokens do not fit the model's context of 256"),
        ("chain.gguf --write 64 --after 200", 1, "264 tokens do not fit"),
        ("chain.gguf --prompt many", 2, "'many' is not a whole number"),
        ("chain.gguf --together 0", 1, "together must be at least 1, got 0"),
        ("chain.gguf --prompt 0 --write 0", 1, "there is nothing to measure"),
        ("chain.gguf --prompt 8 --threads 0", 1, "threads must be between 1 and 1024"),
    ],
)
def test_mistakes(llamero: Run, words: str, code: int, said: str) -> None:
    done = llamero("bench", *words.split())
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""
