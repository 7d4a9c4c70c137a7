"""Memory of a training process: the C library keeps what a step frees, for the next step; and how its end is told.

glibc hands large blocks back to the system at once, and every page of the next ones is a fault, cleared anew: on two
cores of a virtual machine that took two fifths of a step's time.
"""

from __future__ import annotations

import ctypes

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's numbers of its settings


def keep_freed_memory() -> bool:
    """From now on this process keeps freed memory to itself; whether the C library has such a setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def memory_ended(error: Exception) -> bool:
    """Whether this is what Python, torch on a GPU, or torch on a CPU, which has no type for it, says then."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
