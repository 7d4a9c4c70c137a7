"""Prompt, writing, start and memory beside llama-cpp-python, in one run, alternating.

    python bench/cpu.py model.gguf --prompt 512 --write 32 --rounds 5 --threads 2

Each round starts a fresh process for each of the two, reads a prompt of random ids, and writes greedily. Printed are
the medians and the ratio ours / theirs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

FIGURES = {
    "load_s": "open the model (s)",
    "first_s": "start of process to first token (s)",
    "prompt_tps": "prompt (tokens/s)",
    "write_tps": "writing (tokens/s)",
    "resident_mb": "peak resident memory (MB)",
}


def ours(model: str, prompt: list[int], write: int, threads: int, begun: float) -> dict[str, float]:
    """One run of llamero, timed inside the process."""
    from llamero import Llama

    start = time.perf_counter()
    llama = Llama(model, context=len(prompt) + write + 8, threads=threads)
    load = time.perf_counter() - start
    return {"load_s": load} | timed(
        lambda: (1 for _ in llama.generate(prompt, max_tokens=write, temperature=0, stream=True)), len(prompt), begun
    )


def theirs(model: str, prompt: list[int], write: int, threads: int, begun: float) -> dict[str, float]:
    """One run of llama-cpp-python, timed inside the process."""
    from llama_cpp import Llama

    start = time.perf_counter()
    llama = Llama(
        model, n_ctx=len(prompt) + write + 8, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False
    )
    load = time.perf_counter() - start

    def tokens() -> object:
        for count, _ in enumerate(llama.generate(prompt, temp=0.0), 1):
            yield 1
            if count == write:
                return

    return {"load_s": load} | timed(tokens, len(prompt), begun)


def timed(tokens: Callable[[], object], prompt: int, begun: float) -> dict[str, float]:
    """Speeds of an iterator whose first item comes after the prompt was read."""
    start = time.perf_counter()
    times = [time.perf_counter() for _ in tokens()]  # type: ignore[attr-defined]
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {
        "first_s": time.time() - begun - (time.perf_counter() - times[0]),
        "prompt_tps": prompt / (times[0] - start),
        "write_tps": (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0,
        "resident_mb": peak / 1024,
    }


def child(who: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one of the two in a process of its own."""
    command = [sys.executable, __file__, options.model, "--child", who, "--begun", str(time.time())]
    for name in ("prompt", "write", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--write", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--begun", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        prompt = [(7919 * i) % 30000 + 300 for i in range(options.prompt)]
        run = {"ours": ours, "theirs": theirs}[options.child]
        print(json.dumps(run(options.model, prompt, options.write, options.threads, options.begun)))
        return
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for who, results in runs.items():
            results.append(child(who, options))
    print(f"{options.model}: prompt {options.prompt}, writing {options.write}, {options.threads} threads, "
          f"median of {options.rounds}")  # fmt: skip
    for key, words in FIGURES.items():
        a, b = (statistics.median(run[key] for run in runs[who]) for who in ("ours", "theirs"))
        print(f"  {words:38} llamero {a:9.2f}   llama.cpp {b:9.2f}   ratio {a / b if b else float('nan'):.2f}")


if __name__ == "__main__":
    main()
