"""The messages of a chat request, and what a template is given of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from llamero.interfaces.server.fields import Strict

_NAME = {"name": "templates of Llamas know no names of speakers; put it into the text"}
MEDIA = "this model reads text only"
CACHED = "beginnings that were read before are always found"


class TextPart(Strict):
    """A part of a message."""

    refused: ClassVar[Mapping[str, str]] = {
        "image_url": MEDIA,
        "input_audio": MEDIA,
        "file": MEDIA,
        "refusal": "Llamas answer in text",
        "prompt_cache_breakpoint": CACHED,
    }
    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=4096, fail_fast=True)]


class SaidMessage(Strict):
    """What the user says, or what the assistant is told about its role. developer: the newer name of system."""

    refused: ClassVar[Mapping[str, str]] = _NAME
    role: Literal["system", "developer", "user"]
    content: Content


class CalledFunction(Strict):
    """A function's name, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(Strict):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: int | None = Field(None, description="a hint; calls stand in their order")


class AssistantMessage(Strict):
    """What the assistant said before. Fields of its answers that say nothing here (null, or empty) are accepted."""

    refused: ClassVar[Mapping[str, str]] = {
        **_NAME,
        "audio": MEDIA,
        "function_call": "use tool_calls",
        "refusal": "Llamas answer in text",
    }
    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=1024)] | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolMessage(Strict):
    """What a called function gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = Field(None, description="a hint; the call's id says which function it was")


Message: TypeAlias = SaidMessage | AssistantMessage | ToolMessage
ChatMessage = Annotated[Message, Field(discriminator="role")]


def template_message(message: Message) -> dict[str, Any]:
    """A message as a chat template takes it."""
    told = message.model_dump(exclude_none=True, exclude={"annotations", "name"})
    if message.role == "developer":
        told["role"] = "system"
    for call in told.get("tool_calls", ()):
        call.pop("index", None)
    return told
