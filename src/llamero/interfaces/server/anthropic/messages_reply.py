"""An answer of `/v1/messages` as one body."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any, Literal

from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Text, Usage
from llamero.interfaces.server.fields import Shape

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class MessagesUsage(Shape):
    """Tokens. input_tokens are those that were read; those found in the cache are counted apart."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class TextBody(Shape):
    """What the assistant says."""

    type: Literal["text"]
    text: str
    citations: None


class ToolUseBody(Shape):
    """What the assistant calls. Where the input was cut short, `partial_json` in it holds what there was."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class MessageBody(Shape):
    """The assistant's message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextBody | ToolUseBody]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessagesUsage


def head(event: Begun) -> dict[str, Any]:
    """A message that was begun, and says nothing yet."""
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": event.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_body(Usage(prompt_tokens=event.prompt_tokens)),
    }


def message(events: Iterable[Event]) -> dict[str, Any]:
    """All events of a request as one body."""
    body: dict[str, Any] = {}
    content: list[dict[str, Any]] = []
    for event in events:
        match event:
            case Begun():
                body = head(event)
            case Text(text=text) if text:
                if not content or content[-1]["type"] != "text":
                    content.append(text_block())
                content[-1]["text"] += text
            case CallBegun(id=name, name=function):
                content.append(tool_block(name, function) | {"input": ""})
            case CallArguments(text=text):
                content[-1]["input"] += text
            case Ended():
                body |= ending(event) | {"usage": usage_body(event.usage)}
    for block in content:
        if block["type"] == "tool_use":
            block["input"] = _parsed(block["input"])
    return body | {"content": content}


def text_block() -> dict[str, Any]:
    """A block of text that is empty still."""
    return {"type": "text", "text": "", "citations": None}


def tool_block(name: str, function: str) -> dict[str, Any]:
    """A call whose input is to come."""
    return {"type": "tool_use", "id": name, "name": function, "input": {}}


def ending(event: Ended) -> dict[str, Any]:
    """Why it ended."""
    if event.reason == "stop" and event.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": event.stop}
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    return {"stop_reason": reasons[event.reason], "stop_sequence": None}


def usage_body(usage: Usage) -> dict[str, Any]:
    """The usage as JSON."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _parsed(arguments: str) -> dict[str, Any]:
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"partial_json": arguments}
