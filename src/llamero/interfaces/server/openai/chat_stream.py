"""A chat's answer as chunks of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Text
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.openai.chunks import Chunks
from llamero.interfaces.server.openai.logprobs import ChatLogprobs, chat_logprobs
from llamero.interfaces.server.openai.reply import TimingsBody, UsageBody


class CallPiece(Shape):
    """More of a call's name or arguments. The first piece of a call has its id, type and name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: dict[str, str]


class Delta(Shape):
    """What is new. The first chunk of an answer has the role, and empty content."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[CallPiece] | None = None


class ChunkChoice(Shape):
    """More of answer `index`."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatChunk(Shape):
    """One `data:` of the stream, which ends with `data: [DONE]`.

    usage: null but in the last chunk, which has no choices; only where `stream_options.include_usage` asks for it.
    timings: in the last chunk of each answer.
    """

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: UsageBody | None = None
    timings: TimingsBody | None = None


class ChatFrames(Chunks):
    """Translates events. answers: how many there are. usage: told at the end."""

    def __init__(self, *, answers: int, usage: bool) -> None:
        super().__init__("chat.completion.chunk", "chatcmpl", usage=usage)
        self._answers = answers

    def push(self, event: Event) -> Iterable[str]:
        """The chunks that an event makes."""
        match event:
            case Begun():
                self.begun(event)
                for index in range(self._answers):
                    yield self.chunk(_choice(index, {"role": "assistant", "content": "", "refusal": None}))
            case Text(index=index, text=text, logprobs=logprobs):
                told = chat_logprobs(logprobs) if logprobs else None
                yield self.chunk(_choice(index, {"content": text}, told))
            case CallBegun(index=index, call=call, id=name, name=function):
                named = {"name": function, "arguments": ""}
                piece = {"index": call, "id": name, "type": "function", "function": named}
                yield self.chunk(_choice(index, {"tool_calls": [piece]}))
            case CallArguments(index=index, call=call, text=text):
                piece = {"index": call, "function": {"arguments": text}}
                yield self.chunk(_choice(index, {"tool_calls": [piece]}))
            case Ended(index=index, reason=reason):
                yield self.last(_choice(index, {}, None, reason), event)


def _choice(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
