"""An answer of `/v1/messages` as named events of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Text
from llamero.interfaces.server.anthropic.errors import messages_error
from llamero.interfaces.server.anthropic.messages_reply import (
    MessageBody,
    MessagesUsage,
    StopReason,
    TextBody,
    ToolUseBody,
    ending,
    head,
    text_block,
    tool_block,
    usage_body,
)
from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.refusals import Refusal
from llamero.interfaces.server.responding import data


class MessageDelta(Shape):
    """What is new: of a block its text or its input as JSON text, of the message why it ended."""

    type: Literal["text_delta", "input_json_delta"] | None = None
    text: str | None = None
    partial_json: str | None = None
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None


class MessageEvent(Shape):
    """One event of the stream, of the name that its type is. index: of the block that begins, grows or stops."""

    type: Literal[
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    message: MessageBody | None = None
    index: int | None = None
    content_block: TextBody | ToolUseBody | None = None
    delta: MessageDelta | None = None
    usage: MessagesUsage | None = None


class MessageFrames:
    """Translates events: a message has blocks, and each block begins, grows and stops."""

    def __init__(self) -> None:
        self._block = -1  # the number of the block at hand
        self._open: str | None = None  # its type

    def push(self, event: Event) -> Iterable[str]:
        """The frames that an event makes."""
        match event:
            case Begun():
                yield _frame("message_start", {"message": head(event)})
                yield _frame("ping", {})
            case Text(text=text) if text:
                if self._open != "text":
                    yield from self._begin(text_block())
                yield self._delta({"type": "text_delta", "text": text})
            case CallBegun(id=name, name=function):
                yield from self._begin(tool_block(name, function))
            case CallArguments(text=text):
                yield self._delta({"type": "input_json_delta", "partial_json": text})
            case Ended():
                yield from self._stop()
                yield _frame("message_delta", {"delta": ending(event), "usage": usage_body(event.usage)})

    def end(self) -> Iterable[str]:
        """The end."""
        yield _frame("message_stop", {})

    def failed(self, refusal: Refusal) -> Iterable[str]:
        """An error in the middle."""
        yield data(messages_error(refusal), "error")

    def _begin(self, block: dict[str, Any]) -> Iterator[str]:
        yield from self._stop()
        self._block += 1
        self._open = block["type"]
        yield _frame("content_block_start", {"index": self._block, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> str:
        return _frame("content_block_delta", {"index": self._block, "delta": delta})

    def _stop(self) -> Iterator[str]:
        if self._open is not None:
            self._open = None
            yield _frame("content_block_stop", {"index": self._block})


def _frame(name: str, body: dict[str, Any]) -> str:
    return data({"type": name} | body, name)
