"""What an answer turns out to be made of: words, and calls of functions with their arguments. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Words:
    """Text that is no call."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """Answer `index` calls a function: its `call`-th call, from 0. id: fresh, for the result to name."""

    index: int
    call: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the arguments of answer `index`'s call, as text of one JSON object."""

    index: int
    call: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """Answer `index`'s call is whole."""

    index: int
    call: int


CallEvent: TypeAlias = Words | CallBegun | CallArguments | CallEnded
