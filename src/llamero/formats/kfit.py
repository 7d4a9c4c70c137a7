"""Encoders of the K block types and of the IQ4 types: a search for the scales that lose least.

Every encoder takes (blocks, values) floats to (blocks, size) bytes. Inside, a group of 16 or 32 values that share a
scale is a *column* of a (values, columns) array, so that numpy's loops run along the many groups. Errors are weighted
by the values' own size: a large weight's error does more harm. The method is least squares for each of a short list
of candidate scales; the layout is ggml's bit for bit, the choice of scales is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamero.formats.legacy import IQ4_STEPS, as_half, inverse, iq4_levels
from llamero.formats.planes import pack_planes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Snap = Callable[[Floats], Floats]  # scaled values -> the nearest levels the type has

_TINY = np.float32(1e-20)  # a group with no larger value is stored as zeros
_SINGULAR = np.float32(1e-5)  # below this share the two equations are one: all numbers of a group are the same


def _columns(values: Floats, group: int) -> Floats:
    """(blocks, values) as (group, columns): the groups of the first block, then of the second, and so on."""
    return np.ascontiguousarray(values.reshape(-1, group).T)


def _numbers(columns: Floats, blocks: int, lowest: int = 0) -> Bytes:
    """Whole levels (group, columns) as unsigned numbers (blocks, values), the lowest level becoming 0."""
    return np.ascontiguousarray((columns - np.float32(lowest)).astype(np.uint8).T).reshape(blocks, -1)


def _importance(x: Floats) -> Floats:
    """How much an error counts: the root mean square of its group plus the value's own size."""
    size: Floats = np.abs(x) + np.sqrt(np.mean(x * x, axis=0))
    return size


def _rounded(scale: Floats) -> Floats:
    """The scale as it will be read back."""
    return scale.astype(np.float16).astype(np.float32)


def _per_block(sums: Floats, blocks: int) -> Floats:
    """Sums per column (columns,) added up per block -> (blocks, 1)."""
    total: Floats = sums.reshape(blocks, -1).sum(axis=1, keepdims=True)
    return total


# Types with a scale and no minimum: Q3_K, Q6_K, IQ4_NL, IQ4_XS.


def _whole(lowest: int) -> Snap:
    """Snap to the whole numbers from `lowest` to -lowest - 1."""

    def snap(scaled: Floats) -> Floats:
        return np.clip(np.rint(scaled), lowest, -lowest - 1)

    return snap


def _nearest_iq4() -> Callable[[Floats], Bytes]:
    """A function to the number 0..15 of the nearest IQ4 level; halves decide, so a table of half steps is exact."""
    middles = (np.array(IQ4_STEPS[1:]) + np.array(IQ4_STEPS[:-1])) / 2
    table = np.searchsorted(middles, np.arange(-256, 256) / 2, side="right").astype(np.uint8)

    def nearest(scaled: Floats) -> Bytes:
        half_steps = np.clip(np.floor(scaled * np.float32(2)), -256, 255).astype(np.int16)
        found: Bytes = table[half_steps + np.int16(256)]
        return found

    return nearest


def _fit_scale(x: Floats, weight: Floats, snap: Snap, targets: Sequence[float]) -> Floats:
    """The best scale per column (columns,), when the column's extreme value is laid on each of `targets` in turn.

    For fixed levels l the weighted error of scale * l is least at scale = sum(w x l) / sum(w l l), where it has
    shrunk by sum(w x l)^2 / sum(w l l).
    """
    at = np.abs(x).argmax(axis=0)
    peak = x[at, np.arange(x.shape[1])]
    per_unit = inverse(np.where(np.abs(peak) < _TINY, np.float32(0), peak))
    weighted = weight * x
    best = np.zeros_like(per_unit)
    scale = np.zeros_like(per_unit)
    for target in targets:
        levels = snap(x * (per_unit * np.float32(target)))
        along = (weighted * levels).sum(axis=0)
        size = (weight * levels * levels).sum(axis=0)
        fitted = along * inverse(size)
        better = along * fitted > best
        np.copyto(best, along * fitted, where=better)
        np.copyto(scale, fitted, where=better)
    return scale


@dataclass(frozen=True)
class _Scaled:
    """A block type's fit: value = d * code * level."""

    d: Floats  # (blocks, 1)
    codes: Floats  # (blocks, groups)
    scaled: Floats  # (group, columns), the values over their group's scale


def _fit_codes(x: Floats, weight: Floats, scale: Floats, blocks: int, lowest: int, snap: Snap) -> _Scaled:
    """Round the scales of each block's groups to whole codes `lowest`..-lowest-1, then fit d to what became of them."""
    scales = scale.reshape(blocks, -1)
    at = np.abs(scales).argmax(axis=1, keepdims=True)
    d = _rounded(np.take_along_axis(scales, at, axis=1) / np.float32(lowest))
    codes = np.clip(np.rint(scales * inverse(d)), lowest, -lowest - 1)
    levels = snap(x * inverse((d * codes).reshape(-1))) * codes.reshape(-1)
    size = _per_block((weight * levels * levels).sum(axis=0), blocks)
    along = _per_block((weight * x * levels).sum(axis=0), blocks)
    d = _rounded(along * inverse(size))
    return _Scaled(d, codes, x * inverse((d * codes).reshape(-1)))


def _around(target: float, step: float, count: int) -> list[float]:
    return [target + step * i for i in range(-count, count + 1)]


def encode_q3_k(values: Floats) -> Bytes:
    blocks = len(values)
    x = _columns(values, 16)
    weight = _importance(x)
    scale = _fit_scale(x, weight, _whole(-4), _around(-4, 0.15, 6))
    fit = _fit_codes(x, weight, scale, blocks, -32, _whole(-4))
    numbers = _numbers(_whole(-4)(fit.scaled), blocks, -4)
    codes = (fit.codes + np.float32(32)).astype(np.uint8)
    upper = pack_planes(numbers >> np.uint8(2), 1, 32)
    lower = pack_planes(numbers & np.uint8(3), 2, 32)
    low_codes = pack_planes(codes & np.uint8(15), 4, 8)
    high_codes = pack_planes(codes >> np.uint8(4), 2, 4)
    return np.concatenate([upper, lower, low_codes, high_codes, as_half(fit.d)], axis=1)


def encode_q6_k(values: Floats) -> Bytes:
    blocks = len(values)
    x = _columns(values, 16)
    weight = _importance(x)
    scale = _fit_scale(x, weight, _whole(-32), _around(-32, 0.25, 4))
    fit = _fit_codes(x, weight, scale, blocks, -128, _whole(-32))
    numbers = _numbers(_whole(-32)(fit.scaled), blocks, -32)
    lower = pack_planes(numbers & np.uint8(15), 4, 64)
    upper = pack_planes(numbers >> np.uint8(4), 2, 32)
    return np.concatenate([lower, upper, fit.codes.astype(np.int8).view(np.uint8), as_half(fit.d)], axis=1)


def encode_iq4_nl(values: Floats) -> Bytes:
    nearest = _nearest_iq4()
    x = _columns(values, 32)
    scale = _fit_scale(x, _importance(x), lambda y: iq4_levels(nearest(y)), _around(-127, 1, 7))
    d = _rounded(scale)
    numbers = np.ascontiguousarray(nearest(x * inverse(d)).T)
    return np.concatenate([as_half(d[:, None]), pack_planes(numbers, 4, 16)], axis=1)


def encode_iq4_xs(values: Floats) -> Bytes:
    nearest = _nearest_iq4()

    def snap(scaled: Floats) -> Floats:
        return iq4_levels(nearest(scaled))

    blocks = len(values)
    x = _columns(values, 32)
    weight = _importance(x)
    fit = _fit_codes(x, weight, _fit_scale(x, weight, snap, _around(-127, 1, 7)), blocks, -32, snap)
    numbers = np.ascontiguousarray(nearest(fit.scaled).T).reshape(blocks, -1)
    codes = (fit.codes + np.float32(32)).astype(np.uint8)
    upper = pack_planes(codes >> np.uint8(4), 2, 1)
    lower = pack_planes(codes & np.uint8(15), 4, 1)
    return np.concatenate([as_half(fit.d), upper, lower, pack_planes(numbers, 4, 16)], axis=1)


# Types with a scale and a minimum: Q2_K, Q4_K, Q5_K.


def _fit_ramp(x: Floats, weight: Floats, top: int, starts: Sequence[float]) -> tuple[Floats, Floats]:
    """Scale and minimum (columns,) each, not negative, so that x is near scale * q - minimum with q in 0..top.

    Every start spreads the column's range over that many steps; scale and minimum then solve the two weighted normal
    equations for the q so found.
    """
    low = np.minimum(x.min(axis=0), np.float32(0))
    span = x.max(axis=0) - low
    per_unit = inverse(np.where(span < _TINY, np.float32(0), span))
    raised = x - low
    sum_w, wx = weight.sum(axis=0), weight * x
    sum_x = wx.sum(axis=0)
    best = np.full_like(span, -np.inf)
    scale, minimum = span / np.float32(top), -low
    for start in starts:
        q = np.clip(np.rint(raised * (per_unit * np.float32(start))), 0, top)
        wq = weight * q
        sum_q, sum_qq, sum_xq = wq.sum(axis=0), (wq * q).sum(axis=0), (wx * q).sum(axis=0)
        det = sum_w * sum_qq - sum_q * sum_q
        per_det = inverse(det)
        slope = (sum_w * sum_xq - sum_x * sum_q) * per_det
        offset = (sum_qq * sum_x - sum_q * sum_xq) * per_det
        through_zero = (offset > 0) | (det < _SINGULAR * sum_w * sum_qq)
        slope = np.where(through_zero, sum_xq * inverse(sum_qq), slope)
        offset = np.where(through_zero, np.float32(0), offset)
        gain = slope * sum_xq + offset * sum_x
        better = (gain > best) & (slope > 0)
        for kept, found in ((best, gain), (scale, slope), (minimum, -offset)):
            np.copyto(kept, found, where=better)
    return scale, minimum


@dataclass(frozen=True)
class _Ramped:
    """A block type's fit: value = d * code * number - dmin * min_code."""

    d: Floats  # (blocks, 1)
    dmin: Floats  # (blocks, 1)
    codes: Floats  # (blocks, groups)
    min_codes: Floats  # (blocks, groups)
    numbers: Floats  # (group, columns)


def _ramp_numbers(x: Floats, scales: Floats, minima: Floats, top: int) -> Floats:
    steps: Floats = np.rint((x + minima.reshape(-1)) * inverse(scales.reshape(-1)))
    return np.clip(steps, 0, top)


def _positive_codes(scales: Floats, top: int) -> tuple[Floats, Floats]:
    """One d (blocks, 1) and whole codes 0..top (blocks, groups), so that d * codes is near scales."""
    d = _rounded(scales.max(axis=1, keepdims=True) / np.float32(top))
    return d, np.clip(np.rint(scales * inverse(d)), 0, top)


def _fit_ramped(values: Floats, group: int, top: int, code_top: int, starts: Sequence[float]) -> _Ramped:
    """Fit every group, round scales and minima to codes 0..code_top, then fit d and dmin to what became of them."""
    blocks = len(values)
    x = _columns(values, group)
    weight = _importance(x)
    scale, minimum = _fit_ramp(x, weight, top, starts)
    d, codes = _positive_codes(scale.reshape(blocks, -1), code_top)
    dmin, min_codes = _positive_codes(minimum.reshape(blocks, -1), code_top)
    q = _ramp_numbers(x, d * codes, dmin * min_codes, top)
    d, dmin = _refit(x, weight, q * codes.reshape(-1), min_codes.reshape(-1), d, dmin)
    return _Ramped(d, dmin, codes, min_codes, _ramp_numbers(x, d * codes, dmin * min_codes, top))


def _refit(x: Floats, weight: Floats, up: Floats, down: Floats, d: Floats, dmin: Floats) -> tuple[Floats, Floats]:
    """d and dmin (blocks, 1) that bring d * up - dmin * down nearest to x; the old ones where that has no answer."""
    blocks = len(d)
    wu, wd = weight * up, weight * down
    uu = _per_block((wu * up).sum(axis=0), blocks)
    dd = _per_block((wd * down).sum(axis=0), blocks)
    ud = _per_block((wu * down).sum(axis=0), blocks)
    xu = _per_block((wu * x).sum(axis=0), blocks)
    xd = _per_block((wd * x).sum(axis=0), blocks)
    per_det = inverse(uu * dd - ud * ud)
    new_d, new_dmin = (xu * dd - xd * ud) * per_det, (xu * ud - xd * uu) * per_det
    sound = np.isfinite(new_d) & np.isfinite(new_dmin) & (new_d > d / 2) & (new_d < d * 2) & (new_dmin >= 0)
    return _rounded(np.where(sound, new_d, d)), _rounded(np.where(sound, new_dmin, dmin))


def _spaced(low: float, high: float, count: int) -> list[float]:
    return [float(start) for start in np.linspace(low, high, count)]


def encode_q2_k(values: Floats) -> Bytes:
    fit = _fit_ramped(values, 16, 3, 15, _spaced(2.4, 4.0, 12))
    pairs = fit.codes.astype(np.uint8) | (fit.min_codes.astype(np.uint8) << np.uint8(4))
    numbers = pack_planes(_numbers(fit.numbers, len(values)), 2, 32)
    return np.concatenate([pairs, numbers, as_half(fit.d), as_half(fit.dmin)], axis=1)


def _pack_six_bit_pairs(codes: Floats, min_codes: Floats) -> Bytes:
    """8 scales and 8 minima below 64 as 12 bytes; see kquants._six_bit_pairs."""
    scales, minima = codes.astype(np.uint8), min_codes.astype(np.uint8)
    low, four = np.uint8(15), np.uint8(4)
    first = scales[:, :4] | ((scales[:, 4:] >> four) << np.uint8(6))
    second = minima[:, :4] | ((minima[:, 4:] >> four) << np.uint8(6))
    third = (scales[:, 4:] & low) | ((minima[:, 4:] & low) << four)
    return np.concatenate([first, second, third], axis=1)


def encode_q4_k(values: Floats) -> Bytes:
    fit = _fit_ramped(values, 32, 15, 63, _spaced(13.6, 16.0, 10))
    pairs = _pack_six_bit_pairs(fit.codes, fit.min_codes)
    numbers = pack_planes(_numbers(fit.numbers, len(values)), 4, 32)
    return np.concatenate([as_half(fit.d), as_half(fit.dmin), pairs, numbers], axis=1)


def encode_q5_k(values: Floats) -> Bytes:
    fit = _fit_ramped(values, 32, 31, 63, _spaced(30.2, 32.2, 8))
    pairs = _pack_six_bit_pairs(fit.codes, fit.min_codes)
    numbers = _numbers(fit.numbers, len(values))
    fifth = pack_planes(numbers >> np.uint8(4), 1, 32)
    nibbles = pack_planes(numbers & np.uint8(15), 4, 32)
    return np.concatenate([as_half(fit.d), as_half(fit.dmin), pairs, fifth, nibbles], axis=1)
