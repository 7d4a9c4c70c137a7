"""Who is measured, one class each: how to call it, and how to read what it prints.

A job is what `llamero bench` calls a plan. Every contestant runs it in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from llamero.interfaces.benchmark import Plan

Limits = dict[str, float | None]


class Key(NamedTuple):
    """One figure of a job, as in `llamero.interfaces.benchmark.Figure`."""

    kind: str
    tokens: int
    together: int
    after: int


OPENING = Key("open", 0, 1, 0)


@dataclass(frozen=True)
class Job:
    """A plan for one file."""

    model: Path
    plan: Plan
    threads: int

    @property
    def repeats(self) -> int:
        """How often a peer is to do a thing and give the mean: small models are over too soon to be timed once."""
        deep = max(self.plan.after) > 0
        return 1 if deep else max(1, min(20, int(2e9) // self.model.stat().st_size))

    @property
    def large(self) -> bool:
        """Whether a peer's prompt takes so long that its warming up, which is a whole prompt, would be a waste."""
        return self.model.stat().st_size > 4e9 or max(self.plan.prompts) > 2048


@dataclass(frozen=True)
class Result:
    """Tokens a second, or whatever else the key names; ours comes with shares of the limits."""

    speeds: dict[Key, float]
    shares: dict[Key, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=dict)


class Contestant(Protocol):
    """Anybody who can run a job."""

    @property
    def name(self) -> str: ...
    @property
    def tells_opening(self) -> bool:
        """Whether its results have a figure of that name."""
        ...

    def run(self, job: Job) -> Result:
        """Measure what of the job it can. Raises PeerError."""
        ...

    def one_token(self, job: Job) -> list[str] | None:
        """The command that opens the model, reads one token and ends, if there is one."""
        ...


class PeerError(Exception):
    """A contestant did not do what it was asked; says what it printed last."""


class Ours:
    """llamero's own command."""

    name = "llamero"
    tells_opening = True

    def run(self, job: Job) -> Result:
        plan = job.plan
        lists = {"prompt": plan.prompts, "together": plan.together, "after": plan.after}
        words = [f"--{name}={','.join(map(str, numbers))}" for name, numbers in lists.items()]
        words += [f"--write={plan.write}", f"--rounds={plan.rounds}", f"--threads={job.threads}", "--json=-"]
        told = json.loads(output([*self._llamero(), "bench", str(job.model), *words])[0])
        speeds, shares = {}, {}
        for figure in told["figures"]:
            key = Key(figure["kind"], figure["tokens"], figure["together"], figure["after"])
            speeds[key], shares[key] = figure["speed"], figure["share"]
        return Result(speeds | {OPENING: told["opening"]}, shares, told["limits"])

    def one_token(self, job: Job) -> list[str]:
        words = ["a", "--max-tokens=1", "--temperature=0", "--quiet", f"--threads={job.threads}"]
        return [*self._llamero(), "run", "-m", str(job.model), *words]

    def _llamero(self) -> list[str]:
        return [sys.executable, "-m", "llamero"]


class LlamaCppPython:
    """llama-cpp-python, as installed beside llamero; python_peer.py calls it."""

    name = "llama-cpp-python"
    tells_opening = True

    @staticmethod
    def here() -> bool:
        return importlib.util.find_spec("llama_cpp") is not None

    def run(self, job: Job) -> Result:
        told = json.loads(output(self._command(job))[0].splitlines()[-1])
        return Result({OPENING: told["opening"]} | {Key(*key): speed for key, speed in told["speeds"]})

    def one_token(self, job: Job) -> list[str]:
        return self._command(Job(job.model, Plan((1,), 0), job.threads), once=True)

    def _command(self, job: Job, once: bool = False) -> list[str]:
        plan = job.plan
        words = {"prompts": plan.prompts, "write": plan.write if 1 in plan.together else 0, "after": plan.after}
        words |= {"threads": job.threads, "once": once}
        script = Path(__file__).with_name("python_peer.py")
        return [sys.executable, str(script), str(job.model), json.dumps(words)]


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's tools for measuring. Its flash attention is the faster one here, on prompts and in writing."""

    bench: Path
    batched: Path | None
    name: str = "llama.cpp"
    flags: tuple[str, ...] = ("-fa", "1")
    tells_opening: ClassVar[bool] = False

    def run(self, job: Job) -> Result:
        plan = job.plan
        speeds: dict[Key, float] = {}
        prompts = [length for length in plan.prompts if length]
        if prompts:
            speeds |= self._measure(job, self._prompts(prompts, job.large))
        if plan.write and 1 in plan.together:
            speeds |= self._measure(job, self._writing(plan))
        together = [count for count in plan.together if count > 1]
        if plan.write and together and self.batched:
            speeds |= self._together(job, together)
        return Result(speeds)

    def one_token(self, job: Job) -> list[str] | None:
        simple = self.bench.with_name("llama-simple")
        if simple.exists():
            return [str(simple), "-m", str(job.model), "-n", "1", "a"]
        return [*self._command(job), "-p", "1", "-n", "0", "-r", "1", *self._no_warm_up()]

    def _prompts(self, lengths: list[int], large: bool) -> list[str]:
        if not large:
            return ["-n", "0", "-p", ",".join(map(str, lengths))]
        return ["-n", "0", *self._no_warm_up(), "-p", ",".join(map(str, [32, *lengths]))]

    def _no_warm_up(self) -> list[str]:
        return ["--no-warmup"]

    def _writing(self, plan: Plan) -> list[str]:
        return ["-p", "0", "-n", str(plan.write), "-d", ",".join(map(str, plan.after))]

    def _command(self, job: Job) -> list[str]:
        return [str(self.bench), "-m", str(job.model), "-t", str(job.threads), "-o", "json", *self.flags]

    def _measure(self, job: Job, words: list[str]) -> dict[Key, float]:
        rows = json.loads(output([*self._command(job), "-r", str(job.repeats), *words])[0])
        return {self._key(row): float(row["avg_ts"]) for row in rows}

    def _key(self, row: dict[str, Any]) -> Key:
        if row["n_gen"]:
            return Key("write", row["n_gen"], 1, row["n_depth"])
        return Key("prompt", row["n_prompt"], 1, 0)

    def _together(self, job: Job, counts: list[int]) -> dict[Key, float]:
        plan = job.plan
        speeds = {}
        for after in plan.after:
            room = max(counts) * (after + plan.write)
            words = ["-npp", str(after), "-ntg", str(plan.write), "-npl", ",".join(map(str, counts)), "-c", str(room)]
            command = [str(self.batched), "-m", str(job.model), "-t", str(job.threads), *self._batched_flags(), *words]
            for line in "\n".join(output(command)).splitlines():
                cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
                if len(cells) == 10 and cells[0].isdigit():
                    speeds[Key("write", int(cells[1]), int(cells[2]), after)] = float(cells[7])
        return speeds

    def _batched_flags(self) -> tuple[str, ...]:
        return self.flags


@dataclass(frozen=True)
class IkLlamaCpp(LlamaCpp):
    """ik_llama.cpp, whose tools have drifted from llama.cpp's. repacked: rearrange the weights while loading."""

    name: str = "ik_llama.cpp"
    repacked: bool = False

    def one_token(self, job: Job) -> list[str] | None:
        return None if self.repacked else super().one_token(job)  # repacking starts late

    def _no_warm_up(self) -> list[str]:
        return ["-w", "0"]

    def _writing(self, plan: Plan) -> list[str]:
        deep = [word for after in plan.after if after for word in ("-gp", f"{after},{plan.write}")]
        return ["-p", "0", "-n", str(plan.write if 0 in plan.after else 0), *deep]

    def _command(self, job: Job) -> list[str]:
        return super()._command(job) + (["-rtr", "1"] if self.repacked else [])

    def _key(self, row: dict[str, Any]) -> Key:
        if row["n_gen"]:
            return Key("write", row["n_gen"], 1, row["n_prompt"])
        return Key("prompt", row["n_prompt"], 1, 0)

    def _batched_flags(self) -> tuple[str, ...]:
        return self.flags + (("-rtr",) if self.repacked else ())


def output(command: list[str]) -> tuple[str, str]:
    """What a command prints to stdout and stderr."""
    with tempfile.TemporaryDirectory() as folder:  # some leave logs where they run
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise PeerError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr[-500:]}")
    return done.stdout, done.stderr
