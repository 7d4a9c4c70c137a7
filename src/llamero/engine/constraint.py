"""What an answer is allowed to say, token by token: the seam between a grammar and the sampler. Ids only.

A `Constraint` is what was asked for: frozen, checked when it was made, shared by every answer to it. `begin` gives one
answer's `Matcher`, which walks along with the tokens. Where a matcher cannot go on it raises, and the answer fails: a
constraint is never quietly dropped.
"""

from __future__ import annotations

from typing import Protocol

from llamero.engine.sampling import Logits


class Matcher(Protocol):
    """One answer's place in a grammar."""

    @property
    def hurried(self) -> bool:
        """Whether the answer's room, not the model, decided some of its tokens."""
        ...

    def mask(self, logits: Logits) -> None:
        """Set the logits (vocab,) of all that may not come next to minus infinity, in place.

        The tokens that end an answer may come only where the grammar is complete.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on past a token that was chosen."""
        ...

    def copy(self) -> Matcher:
        """The same place, to look ahead from (drafted tokens)."""
        ...


class Constraint(Protocol):
    """A grammar, ready to be followed."""

    def begin(self, room: int | None = None) -> Matcher:
        """A matcher at its start. room: how many tokens the answer may have at most, its end not counted.

        An answer that can be whole within its room is made to become so.
        """
        ...
