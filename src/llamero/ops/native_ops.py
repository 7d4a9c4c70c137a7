"""The operations on a CPU: llamero's own kernels, over weights left where they are mapped.

A call with handles costs less than a microsecond, so the methods of a step are the extension's own; only what happens
once per weight or per step is written here. Knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llamero import _native
from llamero.errors import DeviceError, SettingError, WeightsError, nearest
from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor
from llamero.ops.protocol import Span, StoreShape

if TYPE_CHECKING:
    from llamero._native import Trainer as Trainer

KINDS = ("f32", "f16", "q8_0")
_PLAIN = frozenset({"F64", "I8", "I16", "I32", "I64"})  # no kernels multiply these: a float copy is kept instead


class NativeOps(_native.Machine):
    """Ops over `_native.Array` and `_native.Weight`.

    threads: how many share the work; None for one per core that this process may use. level: an instruction-set level
    of `levels()`; None for the strongest. deterministic: give a token the same bits whatever else is in its step, and
    however its prompt was cut; prompts are then read several times slower. Raises SettingError for an impossible
    number of threads, DeviceError for a level that is not here. Two instances share nothing.
    """

    name = "native"

    def __init__(self, threads: int | None = None, level: str | None = None, *, deterministic: bool = False) -> None:
        if threads is None:
            threads = _native.usable_cores()
        if not 1 <= threads <= 1024:
            raise SettingError(f"threads must be between 1 and 1024, got {threads}")
        if level is not None and level not in levels():
            raise DeviceError(f"instruction-set level {level!r} is not on this machine ({nearest(level, levels())})")
        super().__init__(threads, level or "")
        self.set_deterministic(deterministic)

    def weight(self, tensor: Tensor) -> _native.Weight:
        """A vector as floats, or a matrix as it is stored, without a copy. Raises WeightsError for other shapes."""
        shape = tensor.info.shape
        if len(shape) == 1:
            return _native.Weight.vector(tensor.decode())
        if len(shape) != 2 or 0 in shape:
            raise WeightsError(f"tensor {tensor.info.name!r} of shape {shape} is neither a vector nor a matrix")
        if tensor.info.type.name in _PLAIN:
            return _native.Weight(F32.id, *shape, np.ascontiguousarray(tensor.decode()))
        if tensor.data.nbytes != tensor.info.nbytes:
            sizes = f"{tensor.data.nbytes} bytes, its shape {shape} needs {tensor.info.nbytes}"
            raise WeightsError(f"tensor {tensor.info.name!r} has {sizes}")
        return _native.Weight(tensor.info.type.id, *shape, tensor.data)

    def store(self, shape: StoreShape) -> _native.Store:
        """Memory that is used only as it is written. Raises SettingError for a size or kind that cannot be."""
        if shape.kind not in KINDS:
            raise SettingError(f"cache kind {shape.kind!r} is unknown ({nearest(shape.kind, KINDS)})")
        if shape.kind == "q8_0" and shape.head_dim % 32:
            raise SettingError(f"cache kind q8_0 needs heads a multiple of 32 wide, these are {shape.head_dim}")
        try:
            return _native.Store(shape.layers, shape.kv_heads, shape.head_dim, shape.pages, shape.page, shape.kind)
        except (ValueError, MemoryError) as error:
            raise SettingError(f"there is no memory for a cache of {shape}: {error}") from error

    def copy(self, store: _native.Store, source: int, target: int, tokens: int) -> None:
        """Raises ValueError for pages that the store does not have."""
        store.copy(source, target, tokens)

    def begin(self, store: _native.Store | None, spans: Sequence[Span], inv_freq: NDArray[np.float64]) -> _native.Step:
        """Plan a step. Raises ValueError for spans that their pages or the store cannot hold."""
        starts, lengths = [span.start for span in spans], [span.length for span in spans]
        return _native.begin(store, starts, lengths, [span.pages for span in spans], inv_freq)

    def numpy(self, x: _native.Array) -> NDArray[np.float32]:
        """A view of x, which it keeps alive."""
        return x.numpy()


def trainer(threads: int, level: str | None = None, *, fork: int = 0) -> Trainer:
    """What a training step does beside its products, on arrays of the caller's that speak DLPack, such as torch's.

    fork: the address of the caller's own GOMP_parallel, so that its threads do the work; 0 for threads of its own.
    Arrays are float32 or bfloat16, row after row; shapes that do not fit raise ValueError.
    """
    return _native.Trainer(threads, level or "", fork)


def levels() -> list[str]:
    """The instruction-set levels that run here, weakest first."""
    return _native.levels()
