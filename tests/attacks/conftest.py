"""What every attack must end in: a named error, at once, with little memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from llamero.errors import LlameroError

MEMORY = 100_000_000
SECONDS = 4.0  # a fifth of one is taken; memory that the host gives slowly has cost one more
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Refused = Callable[..., LlameroError]


def resident(field: str) -> int:
    """A count of bytes from the process's status."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@contextmanager
def _little_memory() -> Iterator[None]:
    """Fail when the block takes more than MEMORY: by the kernel's own peak, or by Python's where there is none."""
    if RESET.exists():
        RESET.write_text("5")  # the peak starts again from what is resident now
        before = resident("VmRSS")
        yield
        assert resident("VmHWM") - before < MEMORY
        return
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


@pytest.fixture
def little_memory() -> Callable[[], AbstractContextManager[None]]:
    """`with little_memory():` fails when the block takes 100 MB."""
    return _little_memory


@pytest.fixture
def refused() -> Refused:
    """refused(function, *arguments) -> the LlameroError it raised, within 4 s of processor time and 100 MB."""

    def check(function: Callable[..., object], *arguments: object) -> LlameroError:
        with _little_memory():
            start = time.process_time()
            with pytest.raises(LlameroError) as caught:
                function(*arguments)
            assert time.process_time() - start < SECONDS
        assert len(str(caught.value)) < 2_000
        return caught.value

    return check
