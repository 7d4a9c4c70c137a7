"""What this process has of a device: how much it could do, and how much memory it has taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from llamero.errors import DeviceError
from llamero.ops.limits import measure_limits
from llamero.ops.native_ops import NativeOps
from llamero.training.planning.hardware import GPUS, Hardware, cpu

_STATUS, _REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SMALL = 1 << 22  # bytes: how fast memory is read is not the question here


def hardware_here(device: str) -> Hardware | None:
    """The device as the planner sees it, a CPU's limits measured now; None for a GPU that is not in the table."""
    if torch.device(device).type == "cpu":
        return cpu(measure_limits(NativeOps(threads=torch.get_num_threads()), _SMALL))
    found = torch.cuda.get_device_properties(device)
    kind = next((kind for kind in GPUS if kind.upper() in found.name), None)
    return None if kind is None else replace(GPUS[kind], memory=float(found.total_memory))


class Gauge:
    """Memory taken since it was made: resident on a CPU, allocated on a GPU. Raises DeviceError."""

    def __init__(self, device: str) -> None:
        self._gpu = _is_gpu(device)
        self._device = device
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(device)
        elif _REFS.exists():
            _REFS.write_text("5")  # the peak of resident memory begins anew (proc(5))
        self._before = 0.0 if self._gpu else _resident("VmRSS")

    def peak(self) -> float:
        """Bytes at the fullest moment since; 0 where the system does not tell."""
        if self._gpu:
            return float(torch.cuda.max_memory_allocated(self._device))
        return max(_resident("VmHWM") - self._before, 0.0)


def _is_gpu(device: str) -> bool:
    try:
        found = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"device {device!r} is unknown; choose from cpu, cuda") from None
    if found.type != "cpu" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {device!r} cannot be used: torch finds {torch.cuda.device_count()} GPUs here")
    return found.type != "cpu"


def _resident(name: str) -> float:
    if not _STATUS.exists():
        return 0.0
    lines = _STATUS.read_text().splitlines()
    return 1024.0 * next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
