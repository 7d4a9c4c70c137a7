"""In which floating type a run computes: the one asked for, or the faster one on its device.

Parameters, their gradients and the optimiser's moments are float32 in any case.
"""

from __future__ import annotations

import time
from typing import Literal, get_args

import torch

from llamero.errors import SettingError, nearest

Precision = Literal["auto", "bf16", "f32"]
_SIDE = 512  # of the matrices that are multiplied to compare
_ROUNDS = 5
_MARGIN = 1.2  # how much faster bfloat16 must be, for what it loses in accuracy


def dtype_of(precision: Precision, device: str = "cpu") -> torch.dtype:
    """The type of products and activations. "auto" is bf16 on a GPU, and on a CPU where it multiplies faster.

    Raises SettingError for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise SettingError(f"there is no precision {precision!r} ({nearest(precision, get_args(Precision))})")
    if precision == "f32":
        return torch.float32
    if precision == "bf16" or torch.device(device).type != "cpu":
        return torch.bfloat16
    faster = _seconds(torch.float32) > _MARGIN * _seconds(torch.bfloat16)
    return torch.bfloat16 if faster else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """The shortest time of a product of two square matrices; a processor without a unit for the type takes long."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begun)
    return min(times)
