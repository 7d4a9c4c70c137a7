"""A fair line: first come, first served within an owner; between owners, whoever is served least comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """Items that wait, each for an owner."""

    def __init__(self) -> None:
        self._items: dict[str, deque[T]] = {}  # owners in the order in which their turns come

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def push(self, owner: str, item: T) -> None:
        """Stand at the end of the owner's line."""
        self._items.setdefault(owner, deque()).append(item)

    def head(self, served: Mapping[str, int]) -> str:
        """The owner whose turn it is: the one served least now, and of these the one whose last turn is longest ago."""
        return min(self._items, key=lambda owner: served.get(owner, 0))

    def first(self, owner: str) -> T:
        """The item that `pop` would take."""
        return self._items[owner][0]

    def pop(self, owner: str) -> T:
        """Take the owner's first item; its next turn is after everybody else's."""
        items = self._items.pop(owner)
        item = items.popleft()
        if items:
            self._items[owner] = items
        return item

    def take(self, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all the wanted, wherever they stand."""
        taken = [item for items in self._items.values() for item in items if wanted(item)]
        if taken:
            left = {owner: deque(item for item in items if not wanted(item)) for owner, items in self._items.items()}
            self._items = {owner: items for owner, items in left.items() if items}
        return taken
