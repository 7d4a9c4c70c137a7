"""The calls of one answer while they are read: the functions there are, and the events up to now."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from llamero.interfaces.calls.characters import Characters, Wrong
from llamero.interfaces.calls.events import CallArguments, CallBegun, CallEnded, CallEvent, Words


class Making:
    """Where rules read from and what they make.

    functions: the names that may be called, each with the names of its parameters in order. index: the answer's number.
    """

    def __init__(self, functions: Mapping[str, tuple[str, ...]], index: int) -> None:
        self.characters = Characters()
        self._index = index
        self.functions = functions
        self.calls = 0
        self.current: str | None = None  # the function whose call is being read
        self._events: list[CallEvent] = []

    def known(self, name: str) -> str:
        """The name. Raises Wrong where no such function is."""
        if name not in self.functions:
            raise Wrong
        return name

    def begin(self, name: str) -> None:
        """From here on it is a call, and nothing is given back."""
        self.characters.commit()
        self.current = name
        self._events.append(CallBegun(self._index, self.calls, f"call_{secrets.token_hex(12)}", name))

    def argue(self, text: str) -> None:
        """More of the arguments, as JSON text."""
        if text:
            last = self._events[-1] if self._events else None
            if isinstance(last, CallArguments):
                self._events[-1] = CallArguments(self._index, self.calls, last.text + text)
            else:
                self._events.append(CallArguments(self._index, self.calls, text))

    def end(self) -> None:
        """The call is over."""
        self._events.append(CallEnded(self._index, self.calls))
        self.calls += 1
        self.current = None

    def say(self, text: str) -> None:
        """Text that is no call."""
        if text:
            last = self._events[-1] if self._events else None
            if isinstance(last, Words):
                self._events[-1] = Words(last.text + text)
            else:
                self._events.append(Words(text))

    def taken(self) -> list[CallEvent]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events
