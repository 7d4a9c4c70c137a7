"""How much a chat template may do before it is stopped: steps, characters, nesting, processor time.

Knows plain values (strings, numbers, lists, tuples, dicts) and nothing of Jinja or of chats.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, KeysView, Mapping, ValuesView
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class LimitReached(Exception):
    """A template did too much. Not a ValueError, so that no filter can swallow it."""


@dataclass(frozen=True)
class Limits:
    """What one template may cost; the input given to it raises `steps`, `characters` and `seconds` in proportion."""

    source: int = 262_144  # characters of template text
    lexemes: int = 20_000  # names, operators, strings and stretches of text in it
    steps: int = 500_000  # loop turns, calls, filters, list items
    characters: int = 10_000_000  # made by all operations together, the output included
    items: int = 100_000  # of one value, nested ones counted each time they appear
    integer: int = 2**63  # the greatest magnitude of a whole number
    calls: int = 100  # of macros and recursive loops inside one another
    nesting: int = 64  # of lists and mappings inside one another
    seconds: float = 0.5  # of this thread's processor time


@dataclass(frozen=True)
class Weight:
    """The size of a value when written out: shared parts count each time they appear."""

    items: int
    characters: int
    depth: int


@dataclass
class Budget:
    """The account of one rendering.

    Every loop turn and every operation pays here; the first one past a limit raises `LimitReached`, which says
    which limit it was. Time is the thread's processor time, so a busy machine does not fail an honest template.
    """

    limits: Limits = field(default_factory=Limits)
    now: datetime = field(default_factory=datetime.now)
    steps: int = 0
    characters: int = 0
    calls: int = 0
    _next_look: int = 0

    def __post_init__(self) -> None:
        self._most_steps = self.limits.steps
        self._most_characters = self.limits.characters
        self._deadline = time.thread_time() + self.limits.seconds

    def allow_for(self, values: Iterable[Any]) -> None:
        """Raise the limits for an input of this size: each character may be written some dozens of times."""
        weight = weigh(values if isinstance(values, list | tuple) else list(values), self.limits, most_items=None)
        self._most_steps += 20 * weight.items
        self._most_characters += 64 * weight.characters
        self._deadline += 2e-6 * (weight.characters + 10 * weight.items)

    def step(self, count: int = 1) -> None:
        """Pay for `count` loop turns or operations."""
        self.steps += count
        if self.steps >= self._next_look:
            self._look()

    def make(self, characters: int) -> None:
        """Pay for text of this length, before or after it is made."""
        self.characters += max(characters, 0)
        if self.characters > self._most_characters:
            raise LimitReached(f"it made more than {self._most_characters:,} characters of text")
        self.step(1 + (characters >> 8))

    def enter(self) -> None:
        """Go one call deeper."""
        self.calls += 1
        if self.calls > self.limits.calls:
            raise LimitReached(f"its calls are nested more than {self.limits.calls} deep")

    def leave(self) -> None:
        """Come back from a call."""
        self.calls -= 1

    def take(self, value: Any) -> Any:
        """Pay for a value just made, and return it."""
        if isinstance(value, str):
            self.make(len(value))
        elif isinstance(value, int):
            self._check_integer(value)
        elif isinstance(value, list | tuple | dict | range):
            self.room_for(len(value))
        return value

    def room_for(self, items: int) -> None:
        """Pay for a list of this many items."""
        if items > self.limits.items:
            raise LimitReached(f"it made a list of {items:,} items; at most {self.limits.items:,} are allowed")
        self.step(1 + items)

    def weigh(self, value: Any) -> Weight:
        """Measure a value that is about to be walked whole (compared, printed, sorted), and pay for the walk.

        Lists that share parts can be exponentially larger than the memory they take; this stops them.
        """
        if isinstance(value, str):
            self.step(1 + (len(value) >> 10))
            return Weight(1, len(value), 0)
        weight = weigh(value, self.limits, most_items=self.limits.items)
        self.step(1 + weight.items // 2 + (weight.characters >> 10))
        if weight.characters > self._most_characters:
            raise LimitReached(f"it uses a value of more than {self._most_characters:,} characters")
        return weight

    def _check_integer(self, value: int) -> None:
        if not -self.limits.integer < value < self.limits.integer:
            raise LimitReached("it made a whole number of more than 63 bits")

    def _look(self) -> None:
        if self.steps > self._most_steps:
            raise LimitReached(f"it took more than {self._most_steps:,} steps")
        if time.thread_time() > self._deadline:
            raise LimitReached(f"it ran longer than {self.limits.seconds:g} s of processor time")
        self._next_look = self.steps + 64


def weigh(value: Any, limits: Limits, *, most_items: int | None) -> Weight:
    """The size of `value` written out, without recursion; stops at the limits of items and nesting."""
    items = characters = depth = 0
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        value, level = stack.pop()
        items += 1
        if isinstance(value, str):
            characters += len(value)
            continue
        if isinstance(value, range):
            items += len(value)
        children = _children(value)
        if children is None:
            continue
        depth = max(depth, level + 1)
        if depth > limits.nesting:
            raise LimitReached(f"a value is nested more than {limits.nesting} lists or mappings deep")
        if most_items is not None and items + len(stack) + len(children) > most_items:
            raise LimitReached(f"a value has more than {most_items:,} items")
        stack.extend((child, level + 1) for child in children)
    return Weight(items, characters, depth)


def _children(value: Any) -> list[Any] | None:
    """What a container holds; None for everything else."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | KeysView | ValuesView):
        return list(value)
    if isinstance(value, ItemsView):
        return [part for pair in value for part in pair]
    return None
