"""A reader of the pickles that torch.save writes, which can run nothing.

A pickle is a program for a small stack machine. This machine has only the instructions that build numbers, strings,
lists, dicts and tuples; the few torch names a checkpoint needs (`ALLOWED`) become inert marks, and calling them builds
the descriptions below. Nothing is imported, no attribute is set, no other name is known. Refuses to know about files.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from llamero.errors import FormatError, UnsupportedError

_MAX_STEPS: Final = 400_000  # instructions; a checkpoint of 400 billion parameters takes 70,000
_MAX_BYTES: Final = 1 << 24


@dataclass(frozen=True)
class Name:
    """A global name that a pickle mentions; nothing stands behind it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A run of `count` numbers in the archive's entry `key`. `kind`: torch's class, such as FloatStorage."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class StoredView:
    """A tensor: where its first number is in a storage, its shape, and its strides, all counted in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise FormatError("collections.OrderedDict is only known empty")
    return {}


def _rebuild_tensor(arguments: tuple[Any, ...]) -> StoredView:
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Storage) or not all(map(_are_counts, ((offset,), shape, strides))):
        raise FormatError("a tensor is described by something other than a storage and whole numbers")
    if len(shape) != len(strides) or len(shape) > 8:
        raise FormatError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    return StoredView(storage, offset, shape, strides)


def _are_counts(values: object) -> bool:
    return isinstance(values, tuple) and all(type(item) is int and 0 <= item < 1 << 63 for item in values)


def _rebuild_parameter(arguments: tuple[Any, ...]) -> StoredView:
    if not isinstance(arguments[0], StoredView):
        raise FormatError("a parameter is not a tensor")
    return arguments[0]


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(arguments[0], tuple):
        raise FormatError("a torch.Size is not a tuple")
    return arguments[0]


ALLOWED: Final[Mapping[Name, Callable[[tuple[Any, ...]], Any]]] = MappingProxyType(
    {
        Name("collections", "OrderedDict"): _ordered_dict,
        Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        Name("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        Name("torch", "Size"): _size,
    }
)
"""The names that may be called, and what calling them builds."""


def unpickle(raw: bytes) -> Any:
    """What a torch pickle describes: dicts, lists, tuples, numbers, strings and `StoredView`.

    Raises FormatError for a broken pickle, UnsupportedError for a name or an instruction that is not known here.
    """
    if len(raw) > _MAX_BYTES:
        raise FormatError(f"the pickle has {len(raw)} bytes; {_MAX_BYTES} are the most")
    machine = _Machine(raw)
    try:
        for _ in range(_MAX_STEPS):
            code = machine.take(1)[0]
            if code == _STOP:
                return machine.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise UnsupportedError(f"pickle instruction {code:#04x} at byte {machine.at - 1} is not allowed")
            step(machine)
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"the pickle is broken at byte {machine.at}: {type(error).__name__} {error}") from None
    raise FormatError(f"the pickle has more than {_MAX_STEPS} instructions")


class _Machine:
    """The program, the place in it, the stack with its marks, and the memo."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        part = self.raw[self.at : self.at + size]
        if len(part) < size:
            raise FormatError(f"the pickle ends at byte {len(self.raw)}, in the middle of an instruction")
        self.at += size
        return part

    def number(self, code: str) -> Any:
        kind = struct.Struct("<" + code)
        return kind.unpack(self.take(kind.size))[0]

    def line(self) -> str:
        end = self.raw.index(b"\n", self.at, self.at + 1024)
        text = self.raw[self.at : end].decode()
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_text(self, size_code: str) -> None:
        self.push(self.take(self.number(size_code)).decode())

    def push_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError("the stack is empty")
        items = tuple(self.stack[len(self.stack) - size :])
        del self.stack[len(self.stack) - size :]
        self.push(items)

    def push_name(self, name: Name) -> None:
        if name not in ALLOWED and not _is_storage(name):
            raise UnsupportedError(
                f"the pickle asks for {name}, which no weights need; llamero runs nothing from a file. "
                "If you trust the file, load it with torch and save its state_dict()"
            )
        self.push(name)

    def stack_name(self) -> None:
        module, name = self.stack[-2:]
        del self.stack[-2:]
        if not isinstance(module, str) or not isinstance(name, str):
            raise FormatError("a global name is not a string")
        self.push_name(Name(module, name))

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or name not in ALLOWED or not isinstance(arguments, tuple):
            what = name if isinstance(name, Name) else f"a {type(name).__name__}"
            raise UnsupportedError(f"the pickle calls {what}, which cannot be called")
        self.push(ALLOWED[name](arguments))

    def storage(self) -> None:
        """A persistent id: ("storage", class, key, device, count)."""
        tag, kind, key, _, count = self.stack.pop()
        if tag != "storage" or not isinstance(kind, Name) or not isinstance(key, str) or not _are_counts((count,)):
            raise FormatError("a persistent id does not describe a storage")
        self.push(Storage(kind.name, key, count))

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError("append to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError("items set in what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int, float, bool)):  # hashing a tangle of shared tuples can take for ever
                raise TypeError(f"a dict has a {type(key).__name__} as a key")
            target[key] = value

    def set_state(self) -> None:
        """A state_dict carries its modules' versions as an attribute; it is dropped."""
        state = self.stack.pop()
        if type(self.stack[-1]) is not dict or type(state) is not dict:
            raise UnsupportedError("the pickle sets the state of an object, which weights do not need")

    def pop_two(self) -> list[Any]:
        items = self.stack[-2:]
        del self.stack[-2:]
        return items


def _is_storage(name: Name) -> bool:
    return name.module in ("torch", "torch.storage") and name.name.endswith("Storage")


_STOP: Final = ord(".")
_STEPS: Final[Mapping[int, Callable[[_Machine], object]]] = MappingProxyType(
    {
        0x80: lambda m: m.take(1),  # PROTO
        0x95: lambda m: m.take(8),  # FRAME
        ord("("): lambda m: m.marks.append(len(m.stack)),
        ord("N"): lambda m: m.push(None),
        0x88: lambda m: m.push(True),
        0x89: lambda m: m.push(False),
        ord("J"): lambda m: m.push(m.number("i")),
        ord("K"): lambda m: m.push(m.number("B")),
        ord("M"): lambda m: m.push(m.number("H")),
        0x8A: lambda m: m.push(int.from_bytes(m.take(m.number("B")), "little", signed=True)),  # LONG1
        ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        0x8C: lambda m: m.push_text("B"),  # SHORT_BINUNICODE
        ord("X"): lambda m: m.push_text("I"),
        ord("}"): lambda m: m.push({}),
        ord("]"): lambda m: m.push([]),
        ord(")"): lambda m: m.push(()),
        0x85: lambda m: m.push_tuple(1),
        0x86: lambda m: m.push_tuple(2),
        0x87: lambda m: m.push_tuple(3),
        ord("t"): lambda m: m.push(tuple(m.since_mark())),
        ord("a"): lambda m: m.append([m.stack.pop()]),
        ord("e"): lambda m: m.append(m.since_mark()),
        ord("s"): lambda m: m.set_items(m.pop_two()),
        ord("u"): lambda m: m.set_items(m.since_mark()),
        ord("c"): lambda m: m.push_name(Name(m.line(), m.line())),
        0x93: lambda m: m.stack_name(),  # STACK_GLOBAL
        ord("R"): lambda m: m.call(),
        ord("Q"): lambda m: m.storage(),
        ord("b"): lambda m: m.set_state(),
        ord("q"): lambda m: m.remember(m.number("B")),
        ord("r"): lambda m: m.remember(m.number("I")),
        0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
        ord("h"): lambda m: m.push(m.memo[m.number("B")]),
        ord("j"): lambda m: m.push(m.memo[m.number("I")]),
    }
)
"""The instructions by their byte (the pickle module's documentation names them)."""
