"""One answer as it is written: tokens become text, and text becomes events."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.engine.text import Stops, StreamDecoder
from llamero.interfaces.server.answer import Ended, Event, Finish, Reading, Spelt, Text, Times
from llamero.interfaces.server.tally import Tally

_LEAST = -9999.0  # JSON knows no infinity; OpenAI tells this number too


class Writer:
    """Listens to one run and puts its events into `put`. over: called once, with what went wrong, if anything did.

    All of it happens on the event loop. spell: the bytes of a token. tally: counts of the whole request, shared by its
    answers. quiet: tell nothing about the reading of the prompt.
    """

    def __init__(
        self,
        index: int,
        run: Run,
        *,
        decoder: StreamDecoder,
        stops: Stops,
        spell: Callable[[int], bytes],
        tally: Tally,
        put: Callable[[Event], None],
        over: Callable[[Exception | None], None],
        quiet: bool = False,
    ) -> None:
        self.index, self.run, self.stops = index, run, stops
        self._decoder, self._spell, self._tally = decoder, spell, tally
        self._put, self._over, self._quiet = put, over, quiet
        self.done = False
        self._written = 0
        self._first = self._last = 0.0
        self._asked = perf_counter()

    def read(self, done: int, total: int) -> None:
        """Part of the prompt was read."""
        if not self._quiet and done < total:
            self._put(Reading(done, total))

    def chose(self, choice: Choice) -> None:
        """One more token."""
        if self.done:
            return
        self._last = perf_counter()
        self._first = self._first or self._last
        self._written += 1
        self._tally.wrote(1)
        self._say(self.stops.push(self._decoder.push(choice.id)), choice)
        if self.stops.found is not None:
            self._end("stop")

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes."""
        if self.done:
            return
        if error:
            self.done = True
            self._over(error)
            return
        self._say(self.stops.push(self._decoder.flush()) + self.stops.flush())
        reason = self.run.finish_reason
        self._end("length" if reason == "length" and self.stops.found is None else "stop")

    def _say(self, text: str, choice: Choice | None = None) -> None:
        spelt = () if choice is None or choice.logprob is None else (self._spelt(choice),)
        if text or spelt:
            self._put(Text(self.index, text, spelt))

    def _spelt(self, choice: Choice) -> Spelt:
        top = tuple(self._told(token, logprob) for token, logprob in choice.top)
        return self._told(choice.id, choice.logprob or 0.0, top)

    def _told(self, token: int, logprob: float, top: tuple[Spelt, ...] = ()) -> Spelt:
        return Spelt(token, self._spell(token), max(logprob, _LEAST), top)

    def _end(self, reason: Finish) -> None:
        self.done = True
        self._tally.ended(self.run)
        usage = self._tally.usage()
        self._put(Ended(self.index, reason, usage, self.stops.found, self.run.seed, self._times()))
        self._over(None)

    def _times(self) -> Times:
        first = self._first or perf_counter()
        return Times(reading=first - self._asked, writing=max(0.0, self._last - first), tokens=self._written)
