"""Measures llama-cpp-python as `llamero bench` measures llamero: forward passes over random tokens, none chosen.

    python bench/python_peer.py model.gguf '{"prompts": [512], "write": 64, "after": [0], "threads": 2}'

With "once": true nothing is warmed up or repeated. The last line printed is JSON: seconds to open the model, and [key,
tokens a second] of each figure.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

_WARM_UP = 32  # tokens
_LEAST, _SHORT = 0.5, 3.0  # seconds that each figure is measured for; that a run takes whose first one only warms up


def main(model: str, job: dict[str, Any]) -> None:
    from llama_cpp import Llama

    lengths = [*job["prompts"], *(after + job["write"] for after in job["after"]), _WARM_UP]
    started = time.perf_counter()
    threads = {"n_threads": job["threads"], "n_threads_batch": job["threads"]}
    llama: Any = Llama(model, n_ctx=max(lengths), n_batch=512, flash_attn=True, verbose=False, **threads)
    opening = time.perf_counter() - started
    ids = [random.randrange(256, llama.n_vocab()) for _ in range(max(lengths))]

    def read(length: int) -> None:
        llama.reset()
        llama.eval(ids[:length])

    def write(after: int) -> float:
        llama.n_tokens = after  # what lies beyond is overwritten
        begun = time.perf_counter()
        for token in ids[after : after + job["write"]]:
            llama.eval([token])
        return time.perf_counter() - begun

    speeds = []
    if not job["once"]:
        read(_WARM_UP)
    for length in filter(None, job["prompts"]):
        speeds.append(
            (("prompt", length, 1, 0), length / mean_time(lambda length=length: timed(read, length), job["once"]))
        )
    for after in sorted(job["after"]) if job["write"] else ():
        if after:
            read(after)
        speeds.append(
            (("write", job["write"], 1, after), job["write"] / mean_time(lambda after=after: write(after), job["once"]))
        )
    print(json.dumps({"opening": opening, "speeds": speeds}))


def timed(work: Any, *arguments: Any) -> float:
    begun = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begun


def mean_time(work: Any, once: bool) -> float:
    """Seconds that the work takes: the mean over half a second or more, without a short first run."""
    total, runs = work(), 1
    if total < _SHORT and not once:
        total, runs = 0.0, 0
    while total < _LEAST and not once:
        total, runs = total + work(), runs + 1
    return float(total / runs)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
