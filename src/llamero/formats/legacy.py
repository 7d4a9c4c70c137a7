"""Block types of 32 values under one scale: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL.

Decoders take (blocks, size) bytes to (blocks, 32) values, encoders the reverse. The layouts and the rounding are
ggml's, bit for bit (docs/formats.md lists them).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamero.formats.planes import pack_planes, unpack_planes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def half(blocks: Bytes, at: int) -> Floats:
    """The float16 stored at byte `at` of every block -> (blocks, 1)."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def as_half(scale: Floats) -> Bytes:
    """A column of scales (blocks, 1) as the two bytes of a float16."""
    return scale.astype("<f2").view(np.uint8)


def inverse(scale: Floats) -> Floats:
    """1 / scale, and 0 where the scale is 0."""
    out: Floats = np.zeros_like(scale)
    return np.divide(np.float32(1), scale, out=out, where=scale != 0)


def _extreme(values: Floats) -> Floats:
    """The value of the largest magnitude in every row, with its sign -> (blocks, 1)."""
    at = np.abs(values).argmax(axis=1, keepdims=True)
    return np.take_along_axis(values, at, axis=1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    return np.unpackbits(np.ascontiguousarray(blocks[:, at : at + 4]), axis=1, bitorder="little")


def _pack_fifth_bits(q: Bytes) -> Bytes:
    return np.packbits(q >> np.uint8(4), axis=1, bitorder="little")


def decode_q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * half(blocks, 0)


def encode_q8_0(values: Floats) -> Bytes:
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * inverse(scale)
    size = np.abs(scaled)
    whole = np.floor(size)
    whole += size - whole >= 0.5  # half away from zero; size - whole is exact
    q = np.copysign(whole, scaled).astype(np.int8)
    return np.concatenate([as_half(scale), q.view(np.uint8)], axis=1)


def decode_q4_0(blocks: Bytes) -> Floats:
    q = unpack_planes(blocks[:, 2:], 4, 16).astype(np.float32)
    return half(blocks, 0) * (q - np.float32(8))


def encode_q4_0(values: Floats) -> Bytes:
    scale = _extreme(values) / np.float32(-8)
    q = np.minimum(values * inverse(scale) + np.float32(8.5), 15).astype(np.uint8)
    return np.concatenate([as_half(scale), pack_planes(q, 4, 16)], axis=1)


def decode_q4_1(blocks: Bytes) -> Floats:
    q = unpack_planes(blocks[:, 4:], 4, 16).astype(np.float32)
    return half(blocks, 0) * q + half(blocks, 2)


def encode_q4_1(values: Floats) -> Bytes:
    low, scale, q = _ramp(values, 15)
    return np.concatenate([as_half(scale), as_half(low), pack_planes(q, 4, 16)], axis=1)


def decode_q5_0(blocks: Bytes) -> Floats:
    q = unpack_planes(blocks[:, 6:], 4, 16) | (_fifth_bits(blocks, 2) << np.uint8(4))
    return half(blocks, 0) * (q.astype(np.float32) - np.float32(16))


def encode_q5_0(values: Floats) -> Bytes:
    scale = _extreme(values) / np.float32(-16)
    q = np.minimum(values * inverse(scale) + np.float32(16.5), 31).astype(np.uint8)
    nibbles = pack_planes(q & np.uint8(15), 4, 16)
    return np.concatenate([as_half(scale), _pack_fifth_bits(q), nibbles], axis=1)


def decode_q5_1(blocks: Bytes) -> Floats:
    q = unpack_planes(blocks[:, 8:], 4, 16) | (_fifth_bits(blocks, 4) << np.uint8(4))
    return half(blocks, 0) * q.astype(np.float32) + half(blocks, 2)


def encode_q5_1(values: Floats) -> Bytes:
    low, scale, q = _ramp(values, 31)
    nibbles = pack_planes(q & np.uint8(15), 4, 16)
    return np.concatenate([as_half(scale), as_half(low), _pack_fifth_bits(q), nibbles], axis=1)


def _ramp(values: Floats, top: int) -> tuple[Floats, Floats, Bytes]:
    """Lowest value, scale and numbers 0..top, so that values are near low + scale * number."""
    low = values.min(axis=1, keepdims=True)
    scale = (values.max(axis=1, keepdims=True) - low) / np.float32(top)
    q = np.minimum((values - low) * inverse(scale) + np.float32(0.5), top).astype(np.uint8)
    return low, scale, q


IQ4_STEPS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The sixteen levels of IQ4_NL and IQ4_XS: closer together near zero, where most weights are."""


def iq4_levels(numbers: Bytes) -> Floats:
    """The level of every number 0..15."""
    return np.array(IQ4_STEPS, dtype=np.float32)[numbers]


def decode_iq4_nl(blocks: Bytes) -> Floats:
    return half(blocks, 0) * iq4_levels(unpack_planes(blocks[:, 2:], 4, 16))
