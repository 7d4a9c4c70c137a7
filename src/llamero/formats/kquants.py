"""Decoders of the block types of 256 values: Q2_K to Q6_K and IQ4_XS.

Such a block holds 8 or 16 groups, each with its own small integer scale (and minimum), under one or two float16
scales of the block. Every decoder takes (blocks, size) bytes to (blocks, 256) values. The encoders are in kfit.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamero.formats.legacy import half, iq4_levels
from llamero.formats.planes import unpack_planes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def _spread(scales: Floats, numbers: Floats) -> Floats:
    """numbers (blocks, 256), each multiplied by its group's scale (blocks, groups)."""
    blocks, groups = scales.shape
    return (scales[:, :, None] * numbers.reshape(blocks, groups, -1)).reshape(blocks, 256)


def decode_q2_k(blocks: Bytes) -> Floats:
    """16 bytes of scale and minimum, 64 of two-bit numbers, d, dmin."""
    scales = half(blocks, 80) * (blocks[:, :16] & np.uint8(15)).astype(np.float32)
    minima = half(blocks, 82) * (blocks[:, :16] >> np.uint8(4)).astype(np.float32)
    numbers = unpack_planes(blocks[:, 16:80], 2, 32).astype(np.float32)
    return _spread(scales, numbers) - np.repeat(minima, 16, axis=1)


def decode_q3_k(blocks: Bytes) -> Floats:
    """32 bytes of third bits, 64 of two-bit numbers, 12 of six-bit scales, d. A clear third bit takes 4 away."""
    numbers = unpack_planes(blocks[:, 32:96], 2, 32) | (unpack_planes(blocks[:, :32], 1, 32) << np.uint8(2))
    scales = unpack_planes(blocks[:, 96:104], 4, 8) | (unpack_planes(blocks[:, 104:108], 2, 4) << np.uint8(4))
    signed = half(blocks, 108) * (scales.astype(np.float32) - np.float32(32))
    return _spread(signed, numbers.astype(np.float32) - np.float32(4))


def _six_bit_pairs(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The 8 scales and 8 minima of Q4_K and Q5_K from (blocks, 12) bytes.

    The first four of each are the low six bits of bytes 0-3 and 4-7; the others have their low nibbles together in
    bytes 8-11 and their high two bits on top of bytes 0-3 and 4-7.
    """
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    low, top, two = np.uint8(15), np.uint8(0x30), np.uint8(2)
    scales = np.concatenate([first & np.uint8(63), (third & low) | ((first >> two) & top)], axis=1)
    minima = np.concatenate([second & np.uint8(63), (third >> np.uint8(4)) | ((second >> two) & top)], axis=1)
    return scales, minima


def _scaled_minus_minima(blocks: Bytes, numbers: Bytes) -> Floats:
    scales, minima = _six_bit_pairs(blocks[:, 4:16])
    values = _spread(half(blocks, 0) * scales.astype(np.float32), numbers.astype(np.float32))
    return values - np.repeat(half(blocks, 2) * minima.astype(np.float32), 32, axis=1)


def decode_q4_k(blocks: Bytes) -> Floats:
    """d, dmin, 12 bytes of scales and minima, 128 of nibbles."""
    return _scaled_minus_minima(blocks, unpack_planes(blocks[:, 16:], 4, 32))


def decode_q5_k(blocks: Bytes) -> Floats:
    """As Q4_K, with 32 bytes of fifth bits before the nibbles."""
    numbers = unpack_planes(blocks[:, 48:], 4, 32) | (unpack_planes(blocks[:, 16:48], 1, 32) << np.uint8(4))
    return _scaled_minus_minima(blocks, numbers)


def decode_q6_k(blocks: Bytes) -> Floats:
    """128 bytes of low nibbles, 64 of upper pairs of bits, 16 int8 scales, d."""
    numbers = unpack_planes(blocks[:, :128], 4, 64) | (unpack_planes(blocks[:, 128:192], 2, 32) << np.uint8(4))
    scales = half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _spread(scales, numbers.astype(np.float32) - np.float32(32))


def decode_iq4_xs(blocks: Bytes) -> Floats:
    """d, 8 pairs of upper scale bits, 8 nibbles of lower scale bits, 128 bytes of nibbles."""
    upper = unpack_planes(blocks[:, 2:4], 2, 1)
    scales = unpack_planes(blocks[:, 4:8], 4, 1) | (upper << np.uint8(4))
    numbers = unpack_planes(blocks[:, 8:], 4, 16)
    return _spread(half(blocks, 0) * (scales.astype(np.float32) - np.float32(32)), iq4_levels(numbers))
