"""The messages of Anthropic's requests, and what a chat template is given of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from llamero.interfaces.server.fields import Strict
from llamero.interfaces.server.refusals import Refusal

_CACHE = "a hint; beginnings that were read before are always found"
_SETS = "tools have no sets"


class CacheControl(Strict):
    """Where a beginning ends that will be sent again."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Strict):
    """Text."""

    refused: ClassVar[Mapping[str, str]] = {"citations": "there are no documents to cite"}
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = Field(None, description=_CACHE)


class ToolUseBlock(Strict):
    """A call that the assistant made."""

    refused: ClassVar[Mapping[str, str]] = {"toolset_name": _SETS, "caller": "the model calls directly"}
    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(min_length=1, max_length=128)]
    input: dict[str, Any]
    cache_control: CacheControl | None = Field(None, description=_CACHE)


class ToolResultBlock(Strict):
    """What a called tool gave. is_error: it failed; the text says how."""

    refused: ClassVar[Mapping[str, str]] = {"toolset_name": _SETS}
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1, max_length=256)]
    content: str | Annotated[list[TextBlock], Field(max_length=4096)] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = Field(None, description=_CACHE)


Block = Annotated[TextBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")]
Blocks = Annotated[list[Block], Field(min_length=1, max_length=4096)]
System = str | Annotated[list[TextBlock], Field(max_length=256)]


class MessageParam(Strict):
    """One turn. The assistant uses tools, and the user tells their results."""

    refused: ClassVar[Mapping[str, str]] = {"system": "say it in the field `system`"}
    role: Literal["user", "assistant"]
    content: str | Blocks


def template_messages(system: System | None, messages: Sequence[MessageParam]) -> Iterator[dict[str, Any]]:
    """The conversation as a chat template takes it: results of tools are messages of their own."""
    if system:
        yield {"role": "system", "content": system if isinstance(system, str) else joined(system)}
    for message in messages:
        blocks = message.content
        if isinstance(blocks, str):
            yield {"role": message.role, "content": blocks}
            continue
        wrong = ToolResultBlock if message.role == "assistant" else ToolUseBlock
        if any(isinstance(block, wrong) for block in blocks):
            raise Refusal(400, "messages: tool_use is the assistant's, tool_result the user's", param="messages")
        for result in (block for block in blocks if isinstance(block, ToolResultBlock)):
            yield {"role": "tool", "tool_call_id": result.tool_use_id, "content": _told(result)}
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlock)]
        if calls:
            yield {"role": message.role, "content": joined(texts), "tool_calls": calls}
        elif texts:
            yield {"role": message.role, "content": joined(texts)}


def joined(blocks: Sequence[TextBlock]) -> str:
    """Blocks of text as one."""
    return "\n".join(block.text for block in blocks)


def _told(result: ToolResultBlock) -> str:
    text = result.content if isinstance(result.content, str) else joined(result.content or [])
    return f"Error: {text}" if result.is_error else text


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}
