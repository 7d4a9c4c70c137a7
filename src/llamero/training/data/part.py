"""A part of a stream of tokens, as a stream: what is learnt from beside what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.training.data.tokens import Stream


@dataclass(frozen=True)
class Part:
    """Places `first` up to `last` of a stream; its documents keep their numbers."""

    whole: Stream
    first: int
    last: int

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def fingerprint(self) -> str:
        return f"{self.whole.fingerprint}[{self.first}:{self.last}]"

    @property
    def tokens(self) -> int:
        return self.last - self.first

    def read(self, first: int, last: int) -> NDArray[np.unsignedinteger[Any]]:
        return self.whole.read(self.first + first, self.first + last)

    def marks(self, first: int, last: int) -> NDArray[np.bool_] | None:
        return self.whole.marks(self.first + first, self.first + last)

    def borders(self, first: int, last: int) -> NDArray[np.int64]:
        return self.whole.borders(self.first + first, self.first + last) - self.first

    def document(self, place: int) -> int:
        return self.whole.document(self.first + place)
