"""Every way a tensor's numbers are stored: how many values share how many bytes, and how to decode and encode them.

The table is GGUF's; the other formats use its unquantised part. Decoding here is plain numpy: the oracle that the
native kernels are tested against, and the way of whatever has no kernel. Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, UnsupportedError, WeightsError
from llamero.formats import kfit, kquants, legacy, plain

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CHUNK: Final = 65_536  # values worked on at once, so that the temporary arrays stay in the cache


@dataclass(frozen=True)
class BlockType:
    """A stored number format.

    name, id: ggml's name and number. values: how many values a block holds. size: a block's bytes.
    decode_blocks takes (blocks, size) bytes to (blocks, values) floats, encode_blocks the reverse.
    """

    name: str
    id: int
    values: int
    size: int
    decode_blocks: Callable[[Bytes], Floats] = field(repr=False)
    encode_blocks: Callable[[Floats], Bytes] = field(repr=False)

    def nbytes(self, shape: Sequence[int]) -> int:
        """Stored bytes of a tensor of this shape.

        Raises FormatError when the last dimension is not a whole number of blocks.
        """
        columns = shape[-1] if len(shape) else 1
        if columns % self.values:
            raise FormatError(f"a row of {columns} values is not a whole number of {self.name} blocks of {self.values}")
        return math.prod(shape) // self.values * self.size

    def decode(self, data: Bytes) -> Floats:
        """Stored bytes (nbytes,) as float32 values (blocks * values,). Raises FormatError for a part of a block."""
        if data.size % self.size:
            raise FormatError(f"{data.size} bytes are not a whole number of {self.name} blocks of {self.size} bytes")
        blocks = np.ascontiguousarray(data).reshape(-1, self.size)
        out = np.empty((len(blocks), self.values), dtype=np.float32)
        step = _CHUNK // self.values
        with np.errstate(all="ignore"):  # infinities and NaN pass through; whoever uses the weights checks them
            for at in range(0, len(blocks), step):
                out[at : at + step] = self.decode_blocks(blocks[at : at + step])
        return out.reshape(-1)

    def encode(self, values: NDArray[np.floating]) -> Bytes:
        """Values of any shape as stored bytes (nbytes,).

        Raises FormatError for a part of a block, WeightsError where a quantised type meets an infinity or a NaN.
        """
        if values.size % self.values:
            raise FormatError(f"{values.size} values are not a whole number of {self.name} blocks of {self.values}")
        rows = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, self.values)
        out = np.empty((len(rows), self.size), dtype=np.uint8)
        step = _CHUNK // self.values
        with np.errstate(all="ignore"):
            for at in range(0, len(rows), step):
                part = rows[at : at + step]
                if self.values > 1 and not np.isfinite(part).all():
                    raise WeightsError(f"cannot encode as {self.name}: there are infinities or NaN among the values")
                out[at : at + step] = self.encode_blocks(part)
        return out.reshape(-1)


def _float(name: str, number: int, dtype: str) -> BlockType:
    return BlockType(name, number, 1, np.dtype(dtype).itemsize, plain.reader_of(dtype), plain.writer_of(dtype))


def _integer(name: str, number: int, dtype: str) -> BlockType:
    return BlockType(name, number, 1, np.dtype(dtype).itemsize, plain.reader_of(dtype), plain.integer_writer_of(dtype))


F32: Final = _float("F32", 0, "<f4")
F16: Final = _float("F16", 1, "<f2")
F64: Final = _float("F64", 28, "<f8")
BF16: Final = BlockType("BF16", 30, 1, 2, plain.decode_bf16, plain.encode_bf16)
I8: Final = _integer("I8", 24, "<i1")
I16: Final = _integer("I16", 25, "<i2")
I32: Final = _integer("I32", 26, "<i4")
I64: Final = _integer("I64", 27, "<i8")
Q4_0: Final = BlockType("Q4_0", 2, 32, 18, legacy.decode_q4_0, legacy.encode_q4_0)
Q4_1: Final = BlockType("Q4_1", 3, 32, 20, legacy.decode_q4_1, legacy.encode_q4_1)
Q5_0: Final = BlockType("Q5_0", 6, 32, 22, legacy.decode_q5_0, legacy.encode_q5_0)
Q5_1: Final = BlockType("Q5_1", 7, 32, 24, legacy.decode_q5_1, legacy.encode_q5_1)
Q8_0: Final = BlockType("Q8_0", 8, 32, 34, legacy.decode_q8_0, legacy.encode_q8_0)
Q2_K: Final = BlockType("Q2_K", 10, 256, 84, kquants.decode_q2_k, kfit.encode_q2_k)
Q3_K: Final = BlockType("Q3_K", 11, 256, 110, kquants.decode_q3_k, kfit.encode_q3_k)
Q4_K: Final = BlockType("Q4_K", 12, 256, 144, kquants.decode_q4_k, kfit.encode_q4_k)
Q5_K: Final = BlockType("Q5_K", 13, 256, 176, kquants.decode_q5_k, kfit.encode_q5_k)
Q6_K: Final = BlockType("Q6_K", 14, 256, 210, kquants.decode_q6_k, kfit.encode_q6_k)
IQ4_NL: Final = BlockType("IQ4_NL", 20, 32, 18, legacy.decode_iq4_nl, kfit.encode_iq4_nl)
IQ4_XS: Final = BlockType("IQ4_XS", 23, 256, 136, kquants.decode_iq4_xs, kfit.encode_iq4_xs)

_ALL: Final = (
    *(F32, F16, BF16, F64, I8, I16, I32, I64),
    *(Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS),
)
TYPES: Final[Mapping[str, BlockType]] = MappingProxyType({kind.name: kind for kind in _ALL})
"""The block types by name."""
BY_ID: Final[Mapping[int, BlockType]] = MappingProxyType({kind.id: kind for kind in _ALL})
"""The block types by ggml's number."""

UNSUPPORTED: Final[Mapping[int, str]] = MappingProxyType(
    {4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"}
    | {21: "IQ3_S", 22: "IQ2_S", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0"}
    | {35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}
    | {42: "Q2_0"}
)
"""Numbers that ggml gave to types which llamero does not read, so that an error can name them."""


def block_type(number: int) -> BlockType:
    """The block type of ggml's number. Raises UnsupportedError, with the type's name where it is known."""
    kind = BY_ID.get(number)
    if kind is not None:
        return kind
    name = UNSUPPORTED.get(number)
    what = f"type {name} ({number}) is not supported" if name else f"type number {number} is unknown"
    raise UnsupportedError(f"{what}; llamero reads {', '.join(TYPES)}")
