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
    """The answer's `call`-th call, from 0, and whom it calls. id: fresh, for the result to name."""

    call: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments, as text of one JSON object."""

    call: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is whole."""

    call: int


CallEvent: TypeAlias = Words | CallBegun | CallArguments | CallEnded
