"""A chat's answer as one body."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Spelt, Text
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.openai.logprobs import ChatLogprobs, chat_logprobs
from llamero.interfaces.server.openai.messages import CalledFunction
from llamero.interfaces.server.openai.reply import Head, TimingsBody, UsageBody, timings_body, usage_body


class CallBody(Shape):
    """A function that is to be called."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Shape):
    """The assistant's message; it may be sent back as it is. content: null where there are calls alone."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[dict[str, Any]]
    tool_calls: list[CallBody] | None = None


class ChatChoice(Shape):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Shape):
    """The answers. seeds and timings are llamero's own: the seed of each answer, and the first answer's times."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageBody
    seeds: list[int]
    timings: TimingsBody


@dataclass
class _Answer:
    texts: list[str] = field(default_factory=list)
    tokens: list[Spelt] = field(default_factory=list)
    calls: list[dict[str, str]] = field(default_factory=list)
    ended: Ended | None = None


def chat_completion(events: Iterable[Event], *, logprobs: bool) -> dict[str, Any]:
    """All events of a request as one body."""
    head = Head("chat.completion", "chatcmpl")
    answers: dict[int, _Answer] = {}
    usage = None
    for event in events:
        if isinstance(event, Begun):
            head.begun(event)
        if isinstance(event, Text | CallBegun | CallArguments | Ended):
            _collect(answers.setdefault(event.index, _Answer()), event)
        if isinstance(event, Ended):
            usage = event.usage
    done = [(answer, answer.ended) for _, answer in sorted(answers.items()) if answer.ended]
    assert usage is not None
    return head.fields() | {
        "choices": [_choice(answer, ended, logprobs) for answer, ended in done],
        "usage": usage_body(usage),
        "seeds": [ended.seed for _, ended in done],
        "timings": timings_body(done[0][1].times),
    }


def _collect(answer: _Answer, event: Text | CallBegun | CallArguments | Ended) -> None:
    match event:
        case Text(text=text, logprobs=logprobs):
            answer.texts.append(text)
            answer.tokens += logprobs
        case CallBegun(id=name, name=function):
            answer.calls.append({"id": name, "name": function, "arguments": ""})
        case CallArguments(call=call, text=text):
            answer.calls[call]["arguments"] += text
        case Ended():
            answer.ended = event


def _choice(answer: _Answer, ended: Ended, logprobs: bool) -> dict[str, Any]:
    text = "".join(answer.texts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if answer.calls else ""),
        "refusal": None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
            for call in answer.calls
        ]
    return {
        "index": ended.index,
        "message": message,
        "logprobs": chat_logprobs(answer.tokens) if logprobs else None,
        "finish_reason": ended.reason,
    }
