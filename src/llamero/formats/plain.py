"""Block types of one value: floating-point and integer numbers stored as they are, little-endian."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def reader_of(dtype: str) -> Callable[[Bytes], Floats]:
    """A decoder of (blocks, bytes) for a numpy dtype."""

    def decode(blocks: Bytes) -> Floats:
        return blocks.view(dtype).astype(np.float32)

    return decode


def writer_of(dtype: str) -> Callable[[Floats], Bytes]:
    """An encoder of (blocks, 1) for a numpy floating-point dtype; the cast rounds to nearest, ties to even."""

    def encode(values: Floats) -> Bytes:
        return values.astype(dtype).view(np.uint8)

    return encode


def integer_writer_of(dtype: str) -> Callable[[Floats], Bytes]:
    """An encoder of (blocks, 1) for a numpy integer dtype, which refuses what it cannot hold exactly."""
    limits = np.iinfo(dtype)

    def encode(values: Floats) -> Bytes:
        # float32 cannot express the largest int32 and int64; 2**31 and 2**63 themselves are out of range.
        fits = (values >= limits.min) & (values < float(limits.max) + 1) & (values == np.rint(values))
        if not fits.all():
            raise FormatError(f"{values[~fits][0]} is not a whole number between {limits.min} and {limits.max}")
        return values.astype(dtype).view(np.uint8)

    return encode


def decode_bf16(blocks: Bytes) -> Floats:
    """bfloat16 is the upper half of a float32."""
    return (blocks.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode_bf16(values: Floats) -> Bytes:
    """Round to nearest, ties to even; a NaN keeps its sign and stays a NaN."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    halves = ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype("<u2")
    nan = np.isnan(values)
    if nan.any():
        halves[nan] = ((bits[nan] >> np.uint32(16)) | np.uint32(0x40)).astype("<u2")
    return halves.view(np.uint8)
