"""Parts of tensors: which of a parameter this process holds, and putting stored parts together in any other cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch.distributed.tensor import DTensor

from llamero.errors import FormatError, SettingError
from llamero.formats.blocks import BF16, F16, F32, BlockType
from llamero.formats.tensor import Tensor, TensorInfo

_TYPES: Final[dict[torch.dtype, BlockType]] = {torch.float32: F32, torch.bfloat16: BF16, torch.float16: F16}
_TORCH: Final = {kind.name: dtype for dtype, kind in _TYPES.items()}
_WORDS: Final[dict[int, type[np.unsignedinteger]]] = {
    2: np.uint16,
    4: np.uint32,
}  # numpy has no bfloat16; parts are cut as whole numbers


@dataclass(frozen=True)
class Place:
    """Where a part lies in its tensor: its first element in every dimension, and its shape."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of the part."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The part as indices of the whole."""
        return tuple(slice(at, at + length) for at, length in zip(self.offsets, self.shape, strict=True))

    def common(self, other: Place) -> Place | None:
        """What two parts of one tensor share."""
        starts = tuple(map(max, self.offsets, other.offsets))
        ends = (
            min(a + m, b + n) for a, m, b, n in zip(self.offsets, self.shape, other.offsets, other.shape, strict=True)
        )
        shape = tuple(end - start for start, end in zip(starts, ends, strict=True))
        return Place(starts, shape) if all(length > 0 for length in shape) else None

    def within(self, other: Place) -> tuple[slice, ...]:
        """This part as indices of another that holds it."""
        pairs = zip(self.offsets, other.offsets, self.shape, strict=True)
        return tuple(slice(at - begin, at - begin + length) for at, begin, length in pairs)


def place_of(tensor: TorchTensor) -> Place:
    """The part that this process holds; all of a plain tensor."""
    if not isinstance(tensor, DTensor):
        return Place((0,) * tensor.ndim, tuple(tensor.shape))
    chunks = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]  # torch's protocol of checkpoints
    assert len(chunks) == 1
    return Place(tuple(chunks[0].offsets), tuple(chunks[0].sizes))


def local(tensor: TorchTensor) -> TorchTensor:
    """The memory of the part that this process holds, detached."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def first_holder(tensor: TorchTensor) -> bool:
    """Whether this process, of all that hold the same part, is the one to store it."""
    if not isinstance(tensor, DTensor):
        return True
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return all(at == 0 or not how.is_replicate() for at, how in zip(coordinate, tensor.placements, strict=True))


@dataclass(frozen=True)
class Piece:
    """A part of a tensor in the host's memory, on its way to a file."""

    name: str
    whole: tuple[int, ...]  # the tensor's shape
    place: Place
    values: TorchTensor

    @classmethod
    def copied(cls, name: str, tensor: TorchTensor) -> Piece:
        """A copy of what this process holds; what is computed afterwards does not change it."""
        values = torch.empty(local(tensor).shape, dtype=tensor.dtype).copy_(local(tensor))
        return cls(name, tuple(tensor.shape), place_of(tensor), values)

    def stored(self) -> Tensor:
        """As a file takes it. Raises SettingError for a type that is not floating."""
        kind = _TYPES.get(self.values.dtype)
        if kind is None:
            raise SettingError(f"{self.name}: parameters of type {self.values.dtype} cannot be saved")
        data = self.values.reshape(-1).view(torch.uint8).numpy()
        return Tensor(TensorInfo(self.name, kind, self.place.shape), data)


@dataclass(frozen=True)
class Stored:
    """A part of a tensor in a mapped file."""

    place: Place
    tensor: Tensor


def fill(target: TorchTensor, parts: Iterable[Stored], name: str) -> None:
    """Put what this process holds of `target` together from stored parts, however they were cut.

    Raises FormatError where they leave a hole.
    """
    wanted, into = place_of(target), local(target)
    done = 0
    for part in parts:
        common = wanted.common(part.place)
        if common is not None:
            into[common.within(wanted)].copy_(_values(part.tensor, common.within(part.place)))
            done += common.size
    if done != wanted.size:
        raise FormatError(f"{name}: the files hold {done} of {wanted.size} values at {wanted.offsets}")


def joined(shape: Sequence[int], parts: Iterable[Stored], name: str) -> NDArray[np.float32]:
    """A whole tensor as float32. Raises FormatError where the parts leave a hole."""
    whole = torch.empty(tuple(shape))
    fill(whole, parts, name)
    array: NDArray[np.float32] = whole.numpy()
    return array


def _values(tensor: Tensor, part: tuple[slice, ...]) -> TorchTensor:
    """A part of a stored tensor; only its own bytes are read."""
    kind = tensor.info.type
    if kind.name not in _TORCH:
        raise FormatError(f"{tensor.info.name}: parameters are not stored as {kind.name}")
    words = tensor.data.view(_WORDS[kind.size]).reshape(tensor.info.shape)[part]
    return torch.from_numpy(np.array(words)).view(_TORCH[kind.name])
