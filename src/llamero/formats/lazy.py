"""A tensor whose bytes are made only when a writer reaches it, so that a conversion never holds a whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llamero.errors import WeightsError
from llamero.formats.tensor import TensorInfo


class StoredTensor(Protocol):
    """What a writer takes: `Tensor` and `LazyTensor` both are."""

    @property
    def info(self) -> TensorInfo: ...
    @property
    def data(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class LazyTensor:
    """A description, and a function that makes the stored bytes (nbytes,) each time they are asked for."""

    info: TensorInfo
    load: Callable[[], NDArray[np.uint8]]

    @property
    def data(self) -> NDArray[np.uint8]:
        return self.load()


def checked_data(tensor: StoredTensor) -> NDArray[np.uint8]:
    """The tensor's bytes. Raises WeightsError when they are not as many as its description says."""
    data = tensor.data
    if data.dtype != np.uint8 or data.ndim != 1 or data.size != tensor.info.nbytes:
        info = tensor.info
        raise WeightsError(
            f"tensor {info.name}: {info.type.name} of shape {info.shape} takes {info.nbytes} bytes, got {data.nbytes}"
        )
    return np.ascontiguousarray(data)
