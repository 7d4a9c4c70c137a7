"""The adapters of one engine, by name, and which rows of a step each of them serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic

from llamero.errors import SettingError, nearest
from llamero.formats.blocks import F32, BlockType
from llamero.model.adapter import Adapter, Matrix, adaptable, place
from llamero.model.weights import Weights
from llamero.ops.adapted_ops import AdaptedOps, Changes
from llamero.ops.protocol import A, Ops, W


class Adapters(Generic[A, W]):
    """Adapters may be added and removed at any time, from any thread; a run that began with one ends with it."""

    def __init__(self, ops: Ops[A, W], weights: Weights[W]) -> None:
        self._ops, self._weights = ops, weights
        self._adaptable = adaptable(weights)
        self._named: dict[str, Adapter[W]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._named))

    def add(self, name: str, adapter: Adapter[Matrix], kind: BlockType = F32) -> None:
        """Have an adapter at hand; its numbers are kept as `kind`. Raises SettingError for a name that is taken."""
        if not name:
            raise SettingError("an adapter needs a name")
        if name in self._named:
            raise SettingError(f"there is an adapter {name!r} already; remove it first, or choose another name")
        self._named[name] = place(adapter, self._ops, kind)

    def remove(self, name: str) -> None:
        """Forget an adapter. Raises SettingError when there is none of that name."""
        self.get(name)
        del self._named[name]

    def get(self, name: str | None) -> Adapter[W] | None:
        """The adapter of that name; None for None. Raises SettingError when there is none."""
        if name is None:
            return None
        if name not in self._named:
            known = nearest(name, self._named) if self._named else "none is loaded"
            raise SettingError(f"adapter {name!r} is unknown: {known}")
        return self._named[name]

    def over(self, shares: Iterable[tuple[Adapter[W] | None, int]]) -> tuple[Ops[A, Any], Weights[Any]]:
        """Operations and weights for a step of so many rows for each adapter, in order; the plain ones for none."""
        rows: dict[int, tuple[Changes[W], list[int]]] = {}
        end = 0
        for adapter, count in shares:
            if adapter is not None:
                rows.setdefault(id(adapter), (adapter.changes, []))[1].extend(range(end, end + count))
            end += count
        if not rows:
            return self._ops, self._weights
        return AdaptedOps(self._ops, list(rows.values())), self._adaptable
