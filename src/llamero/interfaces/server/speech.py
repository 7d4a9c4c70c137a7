"""What the tokens of an answer say: text, up to a stop string, and calls of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from llamero.engine.text import Stops, StreamDecoder
from llamero.interfaces.calls.events import CallBegun, CallEnded, CallEvent, Words
from llamero.interfaces.calls.parser import CallParser

Said: TypeAlias = list[CallEvent]


class Speech:
    """One answer's tokens as words and calls. stops: finds the stop string. called: whether a call has begun.

    marks: control tokens that the parser of calls must see, as text. one_call: the answer ends after its first call.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        stops: Stops,
        parser: CallParser | None,
        marks: Mapping[int, str],
        *,
        one_call: bool,
    ) -> None:
        self.stops = stops
        self.called = self.ended = False
        self._decoder, self._parser, self._marks, self._one_call = decoder, parser, marks, one_call

    def push(self, token: int) -> Said:
        """What is certain with one more token. Once `ended`, nothing more is to be pushed."""
        mark = self._marks.get(token)
        text = self.stops.push(self._decoder.push(token) if mark is None else mark)
        said = self._heard(text)
        if self.stops.found is not None and not self.ended:
            self.ended = True
            said += self._rest(cut=False)
        return said

    def flush(self, cut: bool) -> Said:
        """What is left. cut: the answer ended because its tokens ran out."""
        if self.ended:
            return []
        self.ended = True
        return self._heard(self.stops.push(self._decoder.flush()) + self.stops.flush()) + self._rest(cut)

    def _rest(self, cut: bool) -> Said:
        return self._noted(self._parser.flush(cut)) if self._parser else []

    def _heard(self, text: str) -> Said:
        if self._parser:
            return self._noted(self._parser.push(text)) if text else []
        return [Words(text)] if text else []

    def _noted(self, said: Said) -> Said:
        for place, event in enumerate(said):
            self.called = self.called or isinstance(event, CallBegun)
            if self._one_call and isinstance(event, CallEnded):
                self.ended = True
                return said[:place]
        return said
