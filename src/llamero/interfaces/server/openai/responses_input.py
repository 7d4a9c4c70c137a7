"""The input of `/v1/responses`: text, or items of a conversation; and what a chat template is given of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from llamero.interfaces.server.fields import Strict
from llamero.interfaces.server.openai.messages import CACHED, MEDIA
from llamero.interfaces.server.refusals import Refusal

Status = Literal["in_progress", "completed", "incomplete"]
_CALLER = {"caller": "the model calls directly", "namespace": "there are none"}


class InputText(Strict):
    """Text that was said to the model."""

    refused: ClassVar[Mapping[str, str]] = {
        "input_image": MEDIA,
        "input_file": MEDIA,
        "prompt_cache_breakpoint": CACHED,
    }
    type: Literal["input_text"]
    text: str


class OutputText(Strict):
    """Text that the model said."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = Field(None, description="a hint; what was said is said")


Part = Annotated[InputText | OutputText, Field(discriminator="type")]


class MessageItem(Strict):
    """A message; those of the model's answers may be sent back as they are."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=4096)]
    id: str | None = Field(None, description="a hint")
    status: Status | None = Field(None, description="a hint")
    phase: str | None = Field(None, description="a hint")


class CallItem(Strict):
    """A call that the model made."""

    refused: ClassVar[Mapping[str, str]] = {**_CALLER, "async": "calls are made one after another"}
    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: str
    id: str | None = Field(None, description="a hint")
    status: Status | None = Field(None, description="a hint")


class ResultItem(Strict):
    """What a called function gave."""

    refused: ClassVar[Mapping[str, str]] = {**_CALLER, "name": "the call's id says which function it was"}
    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1, max_length=256)]
    output: str | Annotated[list[InputText], Field(max_length=4096)]
    id: str | None = Field(None, description="a hint")
    status: Status | None = Field(None, description="a hint")


def _typed(item: Any) -> Any:
    """An item with its type: one that has none is a message."""
    return {"type": "message"} | item if isinstance(item, dict) else item


Item = Annotated[
    Annotated[MessageItem | CallItem | ResultItem, Field(discriminator="type")],
    BeforeValidator(_typed),
]
Input = str | Annotated[list[Item], Field(min_length=1, max_length=4096)]


def template_messages(
    instructions: str | None, given: str | Sequence[MessageItem | CallItem | ResultItem]
) -> Iterator[dict[str, Any]]:
    """The conversation as a chat template takes it: calls that follow one another belong to one message."""
    if instructions:
        yield {"role": "system", "content": instructions}
    if isinstance(given, str):
        yield {"role": "user", "content": given}
        return
    turn: dict[str, Any] | None = None  # the assistant's, to which calls are added
    for item in given:
        if isinstance(item, CallItem):
            turn = turn or {"role": "assistant", "content": "", "tool_calls": []}
            turn.setdefault("tool_calls", []).append(_call(item))
            continue
        if turn is not None:
            yield turn
        turn = _message(item)
        if turn["role"] != "assistant":
            yield turn
            turn = None
    if turn is not None:
        yield turn


def _message(item: MessageItem | ResultItem) -> dict[str, Any]:
    if isinstance(item, ResultItem):
        return {"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)}
    if isinstance(item.content, list):
        wrong = InputText if item.role == "assistant" else OutputText
        if any(isinstance(part, wrong) for part in item.content):
            raise Refusal(400, "input: the assistant says output_text, everybody else input_text", param="input")
    role = "system" if item.role == "developer" else item.role
    return {"role": role, "content": _text(item.content)}


def _text(content: str | Sequence[InputText | OutputText]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _call(item: CallItem) -> dict[str, Any]:
    return {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
