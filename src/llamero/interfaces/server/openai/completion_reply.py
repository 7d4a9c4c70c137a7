"""Continued texts as one body, or as chunks of a stream: they have one shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal

from llamero.interfaces.server.answer import Begun, Ended, Event, Spelt, Text
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.openai.chunks import Chunks
from llamero.interfaces.server.openai.reply import Head, TimingsBody, UsageBody, timings_body, usage_body


class OldLogprobs(Shape):
    """As completions tell them. text_offset: where each token begins in the answer's text, in characters.

    The first token of an echoed prompt has no logarithm: nothing comes before it.
    """

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CompletionChoice(Shape):
    """One continuation, or more of it. finish_reason: null in all chunks of a stream but its last."""

    index: int
    text: str
    logprobs: OldLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class Completion(Shape):
    """Continuations, whole or in chunks. seeds and timings are llamero's own (in a stream, with the last of each).

    usage: of a stream in a last chunk without choices, where `stream_options.include_usage` asks for it.
    """

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageBody | None = None
    seeds: list[int | None] | None = None
    timings: TimingsBody | None = None


class CompletionFrames(Chunks):
    """Translates events into chunks. usage: told at the end."""

    def __init__(self, *, usage: bool) -> None:
        super().__init__("text_completion", "cmpl", usage=usage)
        self._lengths: dict[int, int] = {}

    def push(self, event: Event) -> Iterable[str]:
        """The chunks that an event makes."""
        match event:
            case Begun():
                self.begun(event)
            case Text(index=index, text=text, logprobs=logprobs):
                yield self.chunk(_more(index, text, self._told(index, logprobs) if logprobs else None))
            case Ended(index=index, reason=reason):
                yield self.last(_more(index, "", None, reason), event)

    def _told(self, index: int, tokens: Sequence[Spelt]) -> dict[str, Any]:
        start = self._lengths.get(index, 0)
        told = old_logprobs(tokens, start)
        self._lengths[index] = start + sum(map(len, told["tokens"]))
        return told


def _more(index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def completion(events: Sequence[Event], *, logprobs: bool) -> dict[str, Any]:
    """All events of a request as one body."""
    head = Head("text_completion", "cmpl")
    head.begun(next(event for event in events if isinstance(event, Begun)))
    texts: dict[int, list[Text]] = {}
    for event in events:
        if isinstance(event, Text):
            texts.setdefault(event.index, []).append(event)
    endings = [event for event in events if isinstance(event, Ended)]
    ordered = sorted(endings, key=lambda ended: ended.index)
    return head.fields() | {
        "choices": [_choice(ended, texts.get(ended.index, []), logprobs) for ended in ordered],
        "usage": usage_body(endings[-1].usage),
        "seeds": [ended.seed for ended in ordered],
        "timings": timings_body(ordered[0].times),
    }


def _choice(ended: Ended, texts: Sequence[Text], logprobs: bool) -> dict[str, Any]:
    tokens = [token for text in texts for token in text.logprobs]
    text = "".join(text.text for text in texts)
    return _more(ended.index, text, old_logprobs(tokens, 0) if logprobs else None, ended.reason)


def old_logprobs(tokens: Sequence[Spelt], start: int) -> dict[str, Any]:
    """The tokens as JSON. start: where in the text the first begins."""
    texts = [_spelt(token) for token in tokens]
    return {
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=start))[: len(texts)],
        "token_logprobs": [token.logprob for token in tokens],
        "tokens": texts,
        "top_logprobs": [None if token.logprob is None else _tops(token) for token in tokens],
    }


def _tops(token: Spelt) -> dict[str, float | None]:
    """The likeliest first among those of one spelling, as half a character may be."""
    return {_spelt(top): top.logprob for top in reversed(token.top)}


def _spelt(token: Spelt) -> str:
    return token.spelling.decode("utf-8", "replace")
