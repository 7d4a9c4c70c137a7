"""Which operations run a model: llamero's own kernels, torch on a GPU, or the slow numpy oracle.

Each is imported only when asked for, so that a model on a CPU needs no torch.
"""

from __future__ import annotations

import os
from typing import Any

from llamero.errors import DeviceError, SettingError
from llamero.ops.protocol import Ops


def make_ops(device: str = "cpu", threads: int | None = None, *, deterministic: bool = False) -> Ops[Any, Any]:
    """Operations for a device: "cpu", "cuda" (or "cuda:1"), or "numpy", which is slow and obviously right.

    threads: for "cpu", how many share the work; None for one per core that this process may use. deterministic: for
    "cpu", see `ops/native_ops.py`.
    Raises DeviceError when the device, or what drives it, is not here.
    """
    if device == "cpu":
        return _native(threads, deterministic)
    if threads is not None:
        raise SettingError(f"threads is a setting of device 'cpu', not of {device!r}")
    if deterministic:
        raise SettingError(f"deterministic is a setting of device 'cpu', not of {device!r}")
    if device == "numpy":
        from llamero.ops.numpy_ops import NumpyOps

        return NumpyOps()
    if device.partition(":")[0] == "cuda":
        return _torch(device)
    raise SettingError(f"device {device!r} is unknown; choose from cpu, cuda, numpy")


def _native(threads: int | None, deterministic: bool) -> Ops[Any, Any]:
    try:
        from llamero.ops.native_ops import NativeOps
    except ImportError as error:
        raise DeviceError(
            f"llamero's compiled kernels cannot be loaded ({error}); install with pip, or use device 'numpy'"
        ) from error
    return NativeOps(threads=threads, deterministic=deterministic)


def _torch(device: str) -> Ops[Any, Any]:
    try:
        from llamero.ops.torch_ops import TorchOps
    except ModuleNotFoundError as error:
        raise DeviceError(f"device {device!r} needs torch: pip install 'llamero[train]'") from error
    return TorchOps(device)


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                found = min(found, int(file.read()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return found


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
