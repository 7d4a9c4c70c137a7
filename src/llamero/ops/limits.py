"""What this machine can do at most, measured: reading memory, and multiplying int8, bfloat16 and float32.

The loops are native (native/kernels/limits.cpp); here they are timed. Neighbours and heat move the figures, so measure
them beside what is compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from llamero.ops.native_ops import NativeOps

_BUFFER = 1 << 29  # bytes to read: far more than any cache holds
_PASSES = 6  # over the buffer
_LEAST = 0.02  # seconds that a loop of multiplications takes at least
_RUNS = 3


@dataclass(frozen=True)
class Limits:
    """Bytes read and operations done per second, by all threads. An operation is a multiplication or an addition.

    bf16 is None where the processor has no unit for it.
    """

    read: float
    int8: float
    bf16: float | None
    f32: float

    @staticmethod
    def best(measured: Sequence[Limits]) -> Limits:
        """The highest of each."""
        bf16 = max(limits.bf16 or 0.0 for limits in measured)
        read, int8, f32 = (max(getattr(limits, name) for limits in measured) for name in ("read", "int8", "f32"))
        return Limits(read, int8, bf16 or None, f32)


def measure_limits(ops: NativeOps, buffer: int = _BUFFER) -> Limits:
    """The limits of the threads and level of `ops`. buffer: bytes to read, held for the time of the call."""
    int8, bf16, f32 = (_multiplying(ops, kind) for kind in ("int8", "bf16", "f32"))
    return Limits(measure_reading(ops, buffer), int8, bf16 or None, f32)


def measure_reading(ops: NativeOps, buffer: int = _BUFFER) -> float:
    """Bytes of memory read per second: the best pass over a buffer."""
    memory = np.full(buffer, 1, np.uint8)  # written to: memory that never was is not read
    return max(_rate(lambda: ops.read(memory)) for _ in range(_PASSES))


def _multiplying(ops: NativeOps, kind: str) -> float:
    """Operations per second, 0 for a unit that is not there: the best of a few runs long enough to be timed."""
    rounds = 1 << 12
    while (started := perf_counter()) and ops.multiply(kind, rounds) and perf_counter() - started < _LEAST:
        rounds *= 2
    return max(_rate(lambda: ops.multiply(kind, rounds)) for _ in range(_RUNS))


def _rate(work: Callable[[], int]) -> float:
    started = perf_counter()
    return work() / (perf_counter() - started)
