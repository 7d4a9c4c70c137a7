"""The loops that find a machine's limits: they count what they do. How fast they are, no test asks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llamero.ops.limits import Limits, measure_limits
from llamero.ops.native_ops import NativeOps, levels


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("level", levels())
def test_limits_are_positive_and_finite(level: str, threads: int) -> None:
    limits = measure_limits(NativeOps(threads, level), buffer=(1 << 20) + 5)
    for limit in (limits.read, limits.int8, limits.f32, limits.bf16 or 1.0):
        assert math.isfinite(limit)
        assert limit > 0


@pytest.mark.parametrize("level", levels())
def test_operations_grow_with_rounds_and_threads(level: str) -> None:
    for kind in ("int8", "bf16", "f32"):
        once = NativeOps(1, level).multiply(kind, 64)
        assert NativeOps(1, level).multiply(kind, 640) == 10 * once
        assert NativeOps(3, level).multiply(kind, 64) == 3 * once
        assert (once > 0) or kind == "bf16"
    assert NativeOps(1, level).multiply("f32", 0) == 0


def test_reading_any_size() -> None:
    for size in (0, 1, 4095, (3 << 20) + 1):
        assert NativeOps(2).read(np.ones(size, np.uint8)) == size


def test_impossible_requests() -> None:
    ops = NativeOps(1)
    with pytest.raises(ValueError, match="int8, bf16 or f32"):
        ops.multiply("f64", 1)
    for rounds in (-1, 1 << 60):
        with pytest.raises(ValueError, match="rounds must be 0 to"):
            ops.multiply("f32", rounds)


def test_the_best_of_several() -> None:
    best = Limits.best([Limits(1.0, 5.0, None, 3.0), Limits(2.0, 4.0, None, 3.0)])
    assert best == Limits(2.0, 5.0, None, 3.0)
