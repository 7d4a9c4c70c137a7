"""How many threads are taken, that they rest when there is nothing to do, and that Python goes on beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llamero import _native
from llamero.formats.blocks import TYPES
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.ops.native_ops import NativeOps

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")


def product(threads: int, name: str, rows: int, k: int, n: int) -> tuple[NativeOps, Any, Any]:
    ops, rng = NativeOps(threads), np.random.default_rng(1)
    values = rng.standard_normal((rows, k), np.float32)
    weight = ops.weight(Tensor(TensorInfo("w", TYPES[name], values.shape), TYPES[name].encode(values)))
    return ops, ops.array(rng.standard_normal((n, k), np.float32)), weight


@linux
def test_affinity_counts() -> None:
    """A process that may use one processor takes one thread, as one that `taskset` starts."""
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from llamero import _native; print(_native.usable_cores())"
    run = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert run.stdout.split() == ["1"]
    assert 1 <= _native.usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [2, 64])
def test_workers_rest(threads: int) -> None:
    """After work the pool burns no core: half a second takes less than a tenth of one core's time."""
    ops, x, weight = product(threads, "Q8_0", 3000, 512, 4)
    for _ in range(20):
        ops.matmul(x, weight)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_K"])
def test_more_threads_than_cores_change_nothing(name: str) -> None:
    wants = {}
    for threads in (1, 64):
        for n in (1, 7):
            ops, x, weight = product(threads, name, 999, 512, n)
            got = [ops.matmul(x, weight)[0].numpy().copy() for _ in range(10)]
            want = wants.setdefault(n, got[0])
            assert all(np.array_equal(y, want) for y in got)


@pytest.mark.parametrize("threads", [1, 2])
def test_python_runs_beside_long_work(threads: int) -> None:
    """The interpreter's lock is free during a product and a long sum."""
    ops, x, weight = product(threads, "F32", 1500, 1024, 400)
    wide = ops.array(np.ones((3000, 2000), np.float32))
    assert any(ticks_beside(lambda: ops.matmul(x, weight)) for _ in range(20))
    assert any(ticks_beside(lambda: ops.add(wide, wide)) for _ in range(20))


def ticks_beside(work: Callable[[], object]) -> bool:
    """Whether this thread runs in the middle of `work` on another."""
    span = []

    def worker() -> None:
        span.append(time.perf_counter())
        work()
        span.append(time.perf_counter())

    thread, ticks = threading.Thread(target=worker), []
    thread.start()
    while thread.is_alive():
        ticks.append(time.perf_counter())
    quarter = (span[1] - span[0]) / 4
    return any(span[0] + quarter < tick < span[1] - quarter for tick in ticks)
