"""What comes back from a model: the whole answer, or its pieces as they come. Knows neither models nor settings."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType

from llamero.engine.request import FinishReason, Run
from llamero.engine.sampling import Choice
from llamero.engine.text import Piece, Stops


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds, and tokens per second, of the two phases of an answer.

    prompt: from the call to the first token; its speed counts the tokens that were really read, not the cached ones.
    completion: all tokens after the first. A speed is 0 where there was nothing to measure.
    """

    prompt_seconds: float
    prompt_per_second: float
    completion_seconds: float
    completion_per_second: float


@dataclass(frozen=True, kw_only=True)
class Logprob:
    """A token of the answer with the natural logarithm of the probability that the model gave it.

    These are the model's own, before penalties, temperature and cuts. top: the likeliest tokens, likeliest first.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer and how it came about.

    text: without the stop string or end token that ended it. ids: the tokens written, without an end token.
    finish_reason: "stop" (an end token or a stop string), "length" (max_tokens, or the context is full), or None
    while unfinished or when the caller stopped early. stop: the stop string that ended it, if one did.
    prompt_tokens: as given; cached_tokens: of these, not read again; dropped_tokens: left out by the overflow policy.
    drafted_tokens: guessed ahead; accepted_tokens: of these, guessed right. seed: in use, so that the answer can be had
    again. logprobs: one for each id, when asked for.
    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason | None
    stop: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    dropped_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    seed: int
    timings: Timings
    logprobs: tuple[Logprob, ...] | None

    @property
    def message(self) -> dict[str, str]:
        """The answer as the next message of a chat."""
        return {"role": "assistant", "content": self.text}


class Stream(Iterator[str]):
    """The pieces of an answer as they come: one for each token, "" where a token makes no text certain yet.

    `completion` is the answer so far, and the whole of it at the end. Closing (or leaving a `with` block, or dropping
    the stream) stops the writing; what was read stays in the cache.
    """

    def __init__(self, pieces: Generator[Piece], run: Run, stops: Stops, dropped: int = 0) -> None:
        self._pieces, self._run, self._stops, self._dropped = pieces, run, stops, dropped
        self._texts: list[str] = []
        self._choices: list[Choice] = []

    def __next__(self) -> str:
        piece = next(self._pieces)
        self._texts.append(piece.text)
        if piece.choice is not None:
            self._choices.append(piece.choice)
        elif not piece.text:
            raise StopIteration
        return piece.text

    def close(self) -> None:
        """Stop writing."""
        self._pieces.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def completion(self) -> Completion:
        """The answer so far."""
        run = self._run
        written = len(self._choices)  # an answer that is wanted whole may have run past a stop string
        return Completion(
            text="".join(self._texts),
            ids=tuple(choice.id for choice in self._choices),
            finish_reason=run.finish_reason if self._stops.found is None else "stop",
            stop=self._stops.found,
            prompt_tokens=run.prompt_tokens + self._dropped,
            completion_tokens=written,
            cached_tokens=run.cached_tokens,
            dropped_tokens=run.dropped_tokens + self._dropped,
            drafted_tokens=run.drafted_tokens,
            accepted_tokens=run.accepted_tokens,
            seed=run.seed,
            timings=Timings(
                prompt_seconds=run.prompt_seconds,
                prompt_per_second=_speed(run.read_tokens, run.prompt_seconds),
                completion_seconds=run.answer_seconds,
                completion_per_second=_speed(written - 1, run.answer_seconds),
            ),
            logprobs=None if run.request.logprobs is None else tuple(map(_logprob, self._choices)),
        )


def _logprob(choice: Choice) -> Logprob:
    assert choice.logprob is not None, "it was asked for"
    return Logprob(id=choice.id, logprob=choice.logprob, top=choice.top)


def _speed(tokens: int, seconds: float) -> float:
    return tokens / seconds if tokens > 0 and seconds > 0 else 0.0
