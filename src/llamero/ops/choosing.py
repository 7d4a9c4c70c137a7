"""The passes over a vocabulary that choosing a token takes, in the native core."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamero import _native

Logits: TypeAlias = NDArray[np.float32]


def exponentials(values: Logits, level: str = "") -> Logits:
    """e to the power of each (n,); 0 below -87.3."""
    out = np.empty(len(values), np.float32)
    _native.exponentials(np.ascontiguousarray(values), out, level)
    return out


def choose(
    logits: Logits, temperature: float, top_k: int, top_p: float, min_p: float, uniform: float, level: str = ""
) -> int | None:
    """What the chain temperature, top_k, top_p, min_p, draw of `engine/sampling.py` chooses from logits (vocab,).

    uniform: the random number of the draw. None where only the chain itself can tell: where the order in which numbers
    are added up may decide, or only some of several equal logits are to be kept.
    """
    least = math.log(min_p) if min_p > 0 else -math.inf
    token = _native.choose(np.ascontiguousarray(logits), temperature, top_k, top_p, least, uniform, level)
    return None if token < 0 else token
