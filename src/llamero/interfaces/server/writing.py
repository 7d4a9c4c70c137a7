"""One answer as it is written: what its tokens say becomes events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from llamero.engine.request import Run
from llamero.engine.sampling import Choice
from llamero.interfaces.calls.events import CallEnded, Words
from llamero.interfaces.server.answer import Ended, Event, Finish, Reading, Text, Times
from llamero.interfaces.server.speech import Said, Speech
from llamero.interfaces.server.spelling import spelt
from llamero.interfaces.server.tally import Tally


class Writer:
    """Listens to one run and puts its events into `put`. over: done when nothing more comes, or failed.

    All of it happens on the event loop. spell: the bytes of a token. tally: counts of the whole request, shared by its
    answers. quiet: tell nothing about the reading of the prompt.
    """

    def __init__(
        self,
        index: int,
        run: Run,
        speech: Speech,
        *,
        spell: Callable[[int], bytes],
        tally: Tally,
        put: Callable[[Event], None],
        quiet: bool = False,
    ) -> None:
        self.run = run
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._index, self._speech = index, speech
        self._spell, self._tally, self._put, self._quiet = spell, tally, put, quiet
        self._written = 0
        self._first = self._last = 0.0
        self._asked = perf_counter()

    def read(self, done: int, total: int) -> None:
        """Part of the prompt was read."""
        if not self._quiet and done < total:
            self._put(Reading(done, total))

    def chose(self, choice: Choice, at: float) -> None:
        """One more token, chosen at that time."""
        if self.over.done():
            return
        self._last = at
        self._first = self._first or at
        self._written += 1
        self._tally.wrote(1)
        said = self._speech.push(choice.id)
        if choice.logprob is not None:
            words = [event.text for event in said[:1] if isinstance(event, Words)]
            self._put(Text(self._index, "".join(words), (spelt(choice, self._spell),)))
            said = said[len(words) :]
        self._tell(said)
        if self._speech.ended:
            self._end("stop")

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes."""
        if self.over.done():
            return
        if error:
            self.over.set_exception(error)
            return
        reason: Finish = "length" if self.run.finish_reason == "length" else "stop"
        self._tell(self._speech.flush(cut=reason == "length"))
        self._end("stop" if self._speech.stops.found is not None else reason)

    def _tell(self, said: Said) -> None:
        for event in said:
            if isinstance(event, Words):
                self._put(Text(self._index, event.text))
            elif not isinstance(event, CallEnded):
                self._put(event)

    def _end(self, reason: Finish) -> None:
        self._tally.ended(self.run)
        if reason == "stop" and self._speech.called:
            reason = "tool_calls"
        stop, seed = self._speech.stops.found, self.run.seed
        self._put(Ended(self._index, reason, self._tally.usage(), stop, seed, self._times()))
        self.over.set_result(None)

    def _times(self) -> Times:
        first = self._first or perf_counter()
        return Times(reading=first - self._asked, writing=max(0.0, self._last - first), tokens=self._written)
