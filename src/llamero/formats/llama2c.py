"""The `.bin` files of llama2.c: a short header of seven counts, then the weights in a fixed order. Read only.

Three versions: 0, without magic, all float32; 1, "ak42", all float32; 2, "ak42", int8 with a float32 scale per group,
decoded when read. Tensors get Meta's names, as the program that wrote them had them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import FormatError, UnsupportedError, WeightsError
from llamero.formats.blocks import F32
from llamero.formats.mapped import Buffer, Mapped
from llamero.formats.tensor import Layout, Tensor, TensorInfo

MAGIC: Final = b"24ka"  # 0x616B3432, "ak42", little-endian
_COUNTS: Final = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
_MOST: Final = (1 << 16, 1 << 20, 1 << 10, 1 << 12, 1 << 12, 1 << 24, 1 << 24)
_PADDED_HEADER: Final = 256


@dataclass(frozen=True)
class _Header:
    version: int
    counts: Mapping[str, int]
    tied: bool
    size: int  # bytes before the first weight
    group: int  # numbers per scale in version 2, else 0


class Llama2c:
    """An open llama2.c file. A `Reader` of layout "meta".

    metadata: like params.json, with "ffn_dim" (the width of the feed-forward layer), "max_seq_len", "tied" (whether
    the output matrix is the embedding), and "norm_eps", which the file does not state and llama2.c fixes at 1e-5.
    """

    layout: Layout = "meta"

    def __init__(self, file: Mapped) -> None:
        self.path = file.path
        self._file = file
        self._header = header = _parse(file)
        counts = dict(header.counts)
        counts["ffn_dim"] = counts.pop("hidden_dim")
        self.metadata: Mapping[str, Any] = MappingProxyType({**counts, "norm_eps": 1e-5, "tied": header.tied})
        self._starts, self.tensors, end = _layout(header)
        if end != len(file):
            raise FormatError(
                f"{file.path}: version {header.version} with {dict(header.counts)} takes {end} bytes, the file has "
                f"{len(file)}; it is cut short or no llama2.c file"
            )

    @classmethod
    def open(cls, path: str | Path) -> Llama2c:
        """Map a file. Raises ModelNotFound, FormatError or UnsupportedError."""
        return cls(Mapped.open(path))

    @classmethod
    def from_buffer(cls, buffer: Buffer, offset: int = 0, size: int | None = None, path: str = "<buffer>") -> Llama2c:
        """Read a file that lies inside a buffer, which is not copied and must outlive the reader."""
        return cls(Mapped.over(buffer, offset, size, Path(path)))

    def read(self, name: str) -> Tensor:
        """A tensor: a view of the file, or decoded from version 2's int8. Raises WeightsError for an unknown name."""
        if name not in self._starts:
            raise WeightsError(f"{self.path} has no tensor {name!r}")
        info, start = self.tensors[name], self._starts[name]
        group = self._header.group
        if not group or len(info.shape) == 1:
            return Tensor(info, self._file.data[start : start + info.nbytes])
        return Tensor(info, _dequantised(self._file, start, math.prod(info.shape), group))

    def close(self) -> None:
        """Let go of the file. Tensors read before stay valid; nothing can be read any more."""
        self._starts.clear()
        self._file.close()


def is_llama2c(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` (256 bytes or all) is one; version 0 has no magic."""
    if head[:4] == MAGIC:
        return True
    file = Mapped(Path("."), np.frombuffer(head, dtype=np.uint8))
    try:
        return _layout(_parse(file))[2] == size
    except FormatError:
        return False


def _parse(file: Mapped) -> _Header:
    raw = file.data[:_PADDED_HEADER].tobytes()
    if len(raw) < 28:
        raise FormatError(f"{file.path}: {len(raw)} bytes are too few for a llama2.c header; the file is cut short")
    if raw[:4] != MAGIC:
        numbers = struct.unpack_from("<7i", raw)
        # Version 0 says "the output matrix is not the embedding" by a negative vocabulary.
        return _Header(0, _counts(file, (*numbers[:5], abs(numbers[5]), numbers[6])), numbers[5] > 0, 28, 0)
    if len(raw) < _PADDED_HEADER:
        raise FormatError(f"{file.path}: {len(raw)} bytes are too few for a llama2.c header; the file is cut short")
    version, *numbers_list = struct.unpack_from("<8i", raw, 4)
    if version not in (1, 2):
        raise UnsupportedError(f"{file.path}: llama2.c version {version} is not read, only 0, 1 and 2")
    tied, group = struct.unpack_from("<Bi", raw, 36)
    header = _Header(
        version, _counts(file, tuple(numbers_list)), _flag(file, tied), _PADDED_HEADER, group if version == 2 else 0
    )
    if version == 2:
        _check_group(file, header)
    return header


def _counts(file: Mapped, numbers: tuple[int, ...]) -> dict[str, int]:
    for name, number, most in zip(_COUNTS, numbers, _MOST, strict=True):
        if not 1 <= number <= most:
            raise FormatError(f"{file.path}: {name} is {number}; this is no llama2.c file, or a damaged one")
    counts = dict(zip(_COUNTS, numbers, strict=True))
    if counts["dim"] % counts["n_heads"] or counts["n_heads"] % counts["n_kv_heads"]:
        raise FormatError(f"{file.path}: dim, n_heads and n_kv_heads do not divide one another: {counts}")
    return counts


def _flag(file: Mapped, value: int) -> bool:
    if value > 1:
        raise FormatError(f"{file.path}: the byte for a shared classifier is {value}, not 0 or 1")
    return bool(value)


def _check_group(file: Mapped, header: _Header) -> None:
    for info in _matrices(header):
        if header.group < 1 or math.prod(info.shape) % header.group:
            raise FormatError(f"{file.path}: groups of {header.group} do not divide {info.name} of {info.shape}")


def _per_layer(header: _Header, name: str, *shape: int) -> Iterator[TensorInfo]:
    for layer in range(header.counts["n_layers"]):
        yield TensorInfo(f"layers.{layer}.{name}.weight", F32, shape)


def _attention(header: _Header) -> Iterator[TensorInfo]:
    dim = header.counts["dim"]
    kv = dim // header.counts["n_heads"] * header.counts["n_kv_heads"]
    for name, rows in (("wq", dim), ("wk", kv), ("wv", kv), ("wo", dim)):
        yield from _per_layer(header, f"attention.{name}", rows, dim)


def _feed_forward(header: _Header) -> Iterator[TensorInfo]:
    dim, wide = header.counts["dim"], header.counts["hidden_dim"]
    for name, shape in (("w1", (wide, dim)), ("w2", (dim, wide)), ("w3", (wide, dim))):
        yield from _per_layer(header, f"feed_forward.{name}", *shape)


def _embedding(header: _Header, name: str) -> TensorInfo:
    return TensorInfo(name, F32, (header.counts["vocab_size"], header.counts["dim"]))


def _matrices(header: _Header) -> Iterator[TensorInfo]:
    """The matrices in the order of versions 1 and 2."""
    yield _embedding(header, "tok_embeddings.weight")
    yield from _attention(header)
    yield from _feed_forward(header)
    if not header.tied:
        yield _embedding(header, "output.weight")


def _in_order(header: _Header) -> Iterator[TensorInfo | int]:
    """Every tensor in the order of the file; an int is a number of bytes to pass over."""
    dim = header.counts["dim"]
    attention_norms = _per_layer(header, "attention_norm", dim)
    ffn_norms = _per_layer(header, "ffn_norm", dim)
    norm = TensorInfo("norm.weight", F32, (dim,))
    if header.version:
        yield from (*attention_norms, *ffn_norms, norm, *_matrices(header))
        return
    yield _embedding(header, "tok_embeddings.weight")
    yield from (*attention_norms, *_attention(header), *ffn_norms, *_feed_forward(header), norm)
    yield header.counts["max_seq_len"] * (dim // header.counts["n_heads"]) * 4  # cosines and sines, recomputed
    if not header.tied:
        yield _embedding(header, "output.weight")


def _layout(header: _Header) -> tuple[dict[str, int], Mapping[str, TensorInfo], int]:
    """Each tensor's first byte and description, and the byte after the last."""
    at = header.size
    starts: dict[str, int] = {}
    tensors: dict[str, TensorInfo] = {}
    for item in _in_order(header):
        if isinstance(item, int):
            at += item
            continue
        starts[item.name], tensors[item.name] = at, item
        count = math.prod(item.shape)
        at += count + count // header.group * 4 if header.group and len(item.shape) == 2 else item.nbytes
    return starts, MappingProxyType(tensors), at


def _dequantised(file: Mapped, start: int, count: int, group: int) -> NDArray[np.uint8]:
    numbers = file.data[start : start + count].view(np.int8).reshape(-1, group)
    scales = file.data[start + count : start + count + count // group * 4].view("<f4").reshape(-1, 1)
    values: NDArray[np.float32] = numbers * scales
    return values.reshape(-1).view(np.uint8)
