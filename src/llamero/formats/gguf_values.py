"""The thirteen kinds of value that GGUF metadata has, and which one a Python value is written as."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import SettingError
from llamero.formats.strings import StringArray


class ValueType(IntEnum):
    """GGUF's numbers for the types of metadata values."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


_CODES: Final = (
    (ValueType.U8, "B", "u1"),
    (ValueType.I8, "b", "i1"),
    (ValueType.U16, "H", "<u2"),
    (ValueType.I16, "h", "<i2"),
    (ValueType.U32, "I", "<u4"),
    (ValueType.I32, "i", "<i4"),
    (ValueType.F32, "f", "<f4"),
    (ValueType.BOOL, "?", "?"),
    (ValueType.U64, "Q", "<u8"),
    (ValueType.I64, "q", "<i8"),
    (ValueType.F64, "d", "<f8"),
)
SCALARS: Final[Mapping[ValueType, struct.Struct]] = MappingProxyType(
    {kind: struct.Struct("<" + code) for kind, code, _ in _CODES}
)
"""How the types of fixed size are stored."""
DTYPES: Final[Mapping[ValueType, np.dtype[Any]]] = MappingProxyType({kind: np.dtype(code) for kind, _, code in _CODES})
"""The numpy types of arrays of them."""


@dataclass(frozen=True)
class Typed:
    """A metadata value that is to be written as exactly this type. Arrays say theirs by their numpy dtype."""

    type: ValueType
    value: bool | int | float | str


def type_of(value: object, key: str) -> ValueType:
    """The GGUF type that a Python value is written as; numpy scalars and arrays keep their own.

    int: U32 if it fits, else I32, I64 or U64. float: F32. list: see `array_of`. Raises SettingError for the rest.
    """
    if isinstance(value, Typed):
        return value.type
    if isinstance(value, (bool, np.bool_)):
        return ValueType.BOOL
    if isinstance(value, np.generic):
        return _type_of_dtype(value.dtype, key)
    if isinstance(value, int):
        return _first_to_hold(value, value, (ValueType.U32, ValueType.I32, ValueType.I64, ValueType.U64), key)
    if isinstance(value, float):
        return ValueType.F32
    if isinstance(value, str):
        return ValueType.STRING
    if isinstance(value, (list, tuple, np.ndarray, StringArray)):
        return ValueType.ARRAY
    raise SettingError(f"metadata {key}: GGUF has no type for a {type(value).__name__}")


def array_of(value: Sequence[Any] | NDArray[Any], key: str) -> NDArray[Any] | Sequence[str]:
    """A list as what GGUF can store: strings as they are, numbers as a numpy array of a type that GGUF has.

    Python ints become int32 (int64 or uint64 where one does not fit), floats float32, bools bool. Raises SettingError
    for a mixed, nested or two-dimensional list.
    """
    if isinstance(value, StringArray):
        return value
    if isinstance(value, np.ndarray):
        if value.ndim != 1:
            raise SettingError(f"metadata {key}: GGUF arrays have one dimension, got {value.ndim}")
        return np.ascontiguousarray(value, dtype=DTYPES[_type_of_dtype(value.dtype, key)])
    kinds = {type(item) for item in value}
    if kinds <= {str}:
        return value
    if kinds == {bool}:
        return np.array(value, dtype=bool)
    if kinds == {int}:
        kind = _first_to_hold(min(value), max(value), (ValueType.I32, ValueType.I64, ValueType.U64), key)
        return np.array(value, dtype=DTYPES[kind])
    if kinds <= {int, float}:
        return np.array(value, dtype="<f4")
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise SettingError(f"metadata {key}: a GGUF array holds one kind of number or strings, got {names}")


def element_type(array: NDArray[Any] | Sequence[str], key: str) -> ValueType:
    """The type of the elements of what `array_of` returned."""
    return _type_of_dtype(array.dtype, key) if isinstance(array, np.ndarray) else ValueType.STRING


def _type_of_dtype(dtype: np.dtype[Any], key: str) -> ValueType:
    for kind, known in DTYPES.items():
        if dtype == known:
            return kind
    raise SettingError(f"metadata {key}: GGUF has no type for numpy's {dtype}")


def _first_to_hold(low: int, high: int, kinds: Sequence[ValueType], key: str) -> ValueType:
    for kind in kinds:
        limits = np.iinfo(DTYPES[kind])
        if limits.min <= low and high <= limits.max:
            return kind
    raise SettingError(f"metadata {key}: whole numbers from {low} to {high} do not fit 64 bits")


def pack_scalar(kind: ValueType, value: Any, key: str) -> bytes:
    """A fixed-size value as its bytes. Raises SettingError when it does not fit the type."""
    try:
        return SCALARS[kind].pack(value)
    except (struct.error, TypeError, OverflowError) as error:
        raise SettingError(f"metadata {key}: {value!r} does not fit {kind.name} ({error})") from None
