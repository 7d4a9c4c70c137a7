"""Amounts as people type them: 8G of memory, 5m of time. For argparse's `type`."""

from __future__ import annotations

import argparse
import re

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def size(text: str) -> int:
    """Bytes: 500M, 8G, 1.5GiB; units are powers of 1024."""
    number, unit = _split(text)
    unit = unit.removesuffix("b").removesuffix("i")
    if unit not in _SIZES:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory; give it as 500M or 8G")
    return int(number * _SIZES[unit])


def duration(text: str) -> float:
    """Seconds: 30, 90s, 5m, 2h."""
    number, unit = _split(text)
    if unit not in _TIMES:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give it as 30s, 5m or 2h")
    return number * _TIMES[unit]


def _split(text: str) -> tuple[float, str]:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; give a number and a unit")
    return float(match[1]), match[2].lower()
