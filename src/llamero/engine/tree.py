"""What the cache holds, found by its tokens: a radix tree whose edges are pages. Knows numbers of pages, no memory.

A node is one page: the tokens that it is known to hold, which follow those of its parents. Only full pages have
children. Each space (whose requests may share) has a tree of its own; all age together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from itertools import takewhile


@dataclass(eq=False)
class Node:
    """A page and the tokens it holds; the root of a space has neither."""

    ids: tuple[int, ...] = ()
    page: int = -1
    parent: Node | None = None
    space: Hashable = None
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)


class Tree:
    """Nodes in the order of their last use. `size` is how many tokens fill a page."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._roots: dict[Hashable, Node] = {}
        self._aged: OrderedDict[Node, None] = OrderedDict()  # longest unused first; children before their parents

    def __len__(self) -> int:
        return len(self._aged)

    def root(self, space: Hashable) -> Node:
        """Where the sequences of a space begin; it is kept while it has children."""
        return self._roots.get(space) or Node(space=space)

    def nearest(self, node: Node, ids: Ids[int]) -> tuple[Node | None, int]:
        """The child that has most of the next tokens from the start, and how many of them; None and 0 if none has."""
        best, most = None, 0
        for child in node.children.values():
            if ids and child.ids[0] == ids[0] and (common := shared(child.ids, ids)) > most:
                best, most = child, common
        return best, most

    def add(self, parent: Node, ids: tuple[int, ...], page: int) -> Node:
        """A new node; the parent has no child of the same tokens yet."""
        node = Node(ids, page, parent)
        if parent.parent is None:
            self._roots[parent.space] = parent
        parent.children[ids] = node
        self.touch(node)
        return node

    def grow(self, node: Node, ids: tuple[int, ...]) -> None:
        """A node's page now holds more tokens, which no other child of its parent has."""
        assert node.parent is not None
        del node.parent.children[node.ids]
        node.ids = ids
        node.parent.children[ids] = node
        self.touch(node)

    def remove(self, node: Node) -> None:
        """Take out a node that has no children."""
        assert node.parent is not None
        assert not node.children
        del node.parent.children[node.ids]
        del self._aged[node]
        if node.parent.parent is None and not node.parent.children:
            del self._roots[node.parent.space]

    def touch(self, node: Node) -> None:
        """A node and those above it are in use now."""
        at: Node | None = node
        while at is not None and at.parent is not None:
            self._aged[at] = None
            self._aged.move_to_end(at)
            at = at.parent

    def oldest(self) -> Iterator[Node]:
        """Nodes without children, longest unused first."""
        return (node for node in self._aged if not node.children)


def shared(a: Ids[int], b: Ids[int]) -> int:
    """How many tokens two lists have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
