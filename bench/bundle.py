"""A bundle beside the installed program with the same file: how long until the first token, in turns.

    python bench/bundle.py model.gguf
    python bench/bundle.py model.gguf --rounds 9 --bundle /tmp/made-before

`first` unpacks the engine into a new folder, from a warm page cache; `later` and `installed` alternate. `bare` is the
launcher and Python alone (`--version`). Seconds of the whole process, wall clock; CPU seconds, own and the kernel's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from llamero.interfaces.bundle.make import make_bundle

ASK = ("run", "Once upon a time", "--max-tokens", "1", "--temperature", "0", "--quiet")
Cost = tuple[float, float]  # wall clock, CPU


def cost(command: list[str | Path], environment: dict[str, str]) -> Cost:
    """What a process takes from its start to its end."""
    begun, before = time.perf_counter(), os.times()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begun, used


def compare(model: Path, bundle: Path, rounds: int) -> dict[str, list[Cost]]:
    """The costs of every kind of start, one of each in every round."""
    costs: dict[str, list[Cost]] = {"first": [], "later": [], "installed": [], "bare": []}
    installed: list[str | Path] = [sys.executable, "-m", "llamero", ASK[0], "-m", model, *ASK[1:]]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = {"XDG_CACHE_HOME": folder}
            costs["first"].append(cost([bundle, *ASK], environment))
            costs["later"].append(cost([bundle, *ASK], environment))
            costs["installed"].append(cost(installed, dict(os.environ)))
            costs["bare"].append(cost([bundle, "--version"], environment))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="one of this model and installation, made before")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = args.bundle
        if bundle is None:
            begun = time.perf_counter()
            bundle = make_bundle(args.model, Path(folder) / "bundle")
            print(f"made in {time.perf_counter() - begun:.1f} s, {bundle.stat().st_size / 1e6:,.1f} MB")
        print(f"{'':10} {'wall':>7} {'least':>7} {'CPU':>7}")
        for name, found in compare(args.model, bundle.resolve(), args.rounds).items():
            walls, used = zip(*found, strict=True)
            print(f"{name:10} {median(walls):7.3f} {min(walls):7.3f} {median(used):7.3f}")


if __name__ == "__main__":
    main()
