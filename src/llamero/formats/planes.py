"""Small unsigned numbers packed into bytes, plane by plane, as the GGUF block types store them.

A run of `run` bytes holds 8 / width planes: plane p is bits p*width and up of every byte of the run, and is `run`
values long. So the low nibbles of a run come first and the high nibbles after them. Knows nothing of scales.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def unpack_planes(packed: Bytes, width: int, run: int) -> Bytes:
    """Numbers of `width` bits (1, 2 or 4) from (blocks, bytes) -> (blocks, bytes * 8 / width)."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    planes = packed.reshape(len(packed), -1, 1, run) >> shifts
    planes &= np.uint8((1 << width) - 1)
    return planes.reshape(len(packed), -1)


def pack_planes(numbers: Bytes, width: int, run: int) -> Bytes:
    """The reverse of `unpack_planes`; every number must be below 2**width."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    planes = numbers.reshape(len(numbers), -1, 8 // width, run) << shifts
    packed: Bytes = np.bitwise_or.reduce(planes, axis=2)
    return packed.reshape(len(numbers), -1)
