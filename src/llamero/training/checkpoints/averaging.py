"""The mean of several checkpoints' weights: often a better model than the last of them (Llama 3, section 3.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, ModelNotFound, SettingError, WeightsError
from llamero.training.checkpoints.checkpoint import Checkpoint, folder_name, steps
from llamero.training.checkpoints.manifest import problems


def average(
    checkpoints: Sequence[Path], tell: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, NDArray[np.float32]]:
    """The mean of each weight by our names, summed in float64, so that the order does not matter.

    checkpoints: folders as `Checkpoint` reads them. tell: told how many were read, and of how many. Raises
    FormatError for what is no whole checkpoint, WeightsError for those of different models.
    """
    if not checkpoints:
        raise SettingError("there is nothing to average: name some checkpoints")
    sums: dict[str, NDArray[np.float64]] = {}
    for number, path in enumerate(checkpoints):
        found = problems(path, slice(None))
        if found:
            raise FormatError(f"{path}: {found[0]}")
        weights = Checkpoint.open(path).weights()
        if sums and {name: value.shape for name, value in weights.items()} != {n: s.shape for n, s in sums.items()}:
            raise WeightsError(f"{path} is of another model than {checkpoints[0]}")
        for name, value in weights.items():
            sums[name] = sums[name] + value if name in sums else value.astype(np.float64)
        tell(number + 1, len(checkpoints))
    return {name: (value / len(checkpoints)).astype(np.float32) for name, value in sums.items()}


def last_checkpoints(folder: Path, count: int) -> list[Path]:
    """The `count` newest checkpoints in a run's folder of them, the oldest first.

    Raises ModelNotFound where there are fewer.
    """
    found = steps(folder)
    if count < 1 or len(found) < count:
        raise ModelNotFound(f"{folder} holds {len(found)} checkpoints, {count} are asked for; keep more with --keep")
    return [folder / folder_name(step) for step in reversed(found[:count])]
