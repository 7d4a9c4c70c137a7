"""Every field that the official clients can send is honoured, or refused by name; never ignored.

The fields are read from the clients' own types, with all that nests in them, so those of a newer client are noticed.
"""

from __future__ import annotations

import os
import types
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Annotated, Any, Literal, Required, Union, get_args, get_origin

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.tool_param import InputSchemaTyped
from openai.types import completion_create_params, embedding_create_params, moderation_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from pydantic import BaseModel, ValidationError
from typing_extensions import get_type_hints, is_typeddict

from llamero.interfaces.server.anthropic.messages_request import CountRequest, MessagesRequest
from llamero.interfaces.server.fields import Strict
from llamero.interfaces.server.mistakes import mistake
from llamero.interfaces.server.openai.chat_request import ChatRequest
from llamero.interfaces.server.openai.completion_request import CompletionRequest
from llamero.interfaces.server.openai.embeddings import EmbeddingRequest
from llamero.interfaces.server.openai.moderations import ModerationRequest
from llamero.interfaces.server.openai.responses_request import ResponsesRequest
from llamero.interfaces.server.refusals import Refusal

SIMPLE: dict[Any, list[Any]] = {
    str: ["x"],
    int: [1, 2],
    float: [0.5],
    bool: [True, False],
    type(None): [None],
    object: ["x"],
    IO[bytes]: [],
    os.PathLike: [],
    InputSchemaTyped: [{"type": "object"}],  # what is in a schema is not ours
}
NULL = "null, which is as good as absent"


@dataclass(frozen=True)
class Sample:
    """A value of some type. changed: the optional field in it that is given, if one is. plain: the same without it."""

    value: Any
    changed: str | None = None
    plain: Any = None


def samples(kind: Any, within: tuple[Any, ...] = ()) -> Iterator[Sample]:
    """Values of a type: each of its forms, and each field of these, with one change at a time."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind in SIMPLE:
        yield from map(Sample, SIMPLE[kind])
    elif origin in (Required, Annotated):
        yield from samples(parts[0], within)
    elif origin in (Union, types.UnionType):
        for part in parts:
            yield from samples(part, within)
    elif origin is Literal:
        yield from map(Sample, parts)
    elif origin in (list, Iterable, Sequence):
        for each in samples(parts[0], within):
            yield replace(each, value=[each.value], plain=[each.plain])
    elif origin in (dict, Mapping):
        for each in samples(parts[1], within):
            yield replace(each, value={"1": each.value}, plain={"1": each.plain})
    elif is_typeddict(kind):
        if kind not in within:
            yield from objects(kind, (*within, kind))
    else:
        assert issubclass(kind, BaseModel), kind  # part of an answer, which may be sent back


def objects(kind: Any, within: tuple[Any, ...]) -> Iterator[Sample]:
    """An object of its required fields alone, and then with each value of each field."""
    hints = get_type_hints(kind, include_extras=True)
    needed = [name for name, hint in hints.items() if get_origin(hint) is Required]
    least = {name: next(samples(hints[name], within), Sample(None)).value for name in needed}
    yield Sample(least)
    for name, hint in hints.items():
        for each in samples(hint, within):
            value = least | {name: each.value}
            if each.changed:
                yield Sample(value, each.changed, least | {name: each.plain})
            elif name in needed:
                yield Sample(value)
            else:
                yield Sample(value, NULL if each.value is None else f"{kind.__name__}.{name}", least)


HELLO = [{"role": "user", "content": "hello"}]
FUNCTION = {"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}
FLAT = {"type": "function", "name": "x", "parameters": {"type": "object"}}
TOOL = {"name": "x", "input_schema": {"type": "object"}}
CLAUDE = {"model": "", "messages": HELLO, "tools": [TOOL]}
HINTS = {
    # nothing is stored, and there is one tier, one speed, one kind of tool and of output
    *("store", "service_tier", "speed", "modalities", "thinking", "ToolParam.type"),
    # who asks
    *("user", "safety_identifier", "metadata", "MetadataParam.user_id"),
    # beginnings that were read before are always found
    *("prompt_cache_key", "prompt_cache_retention", "cache_control", "CacheControlEphemeralParam.ttl"),
    *("TextBlockParam.cache_control", "ToolParam.cache_control", "ToolResultBlockParam.cache_control"),
    # schemas are always enforced, and inputs of tools always streamed
    *("JSONSchema.strict", "ResponseFormatTextJSONSchemaConfigParam.strict", "ToolParam.eager_input_streaming"),
    *("JSONSchema.description", "ResponseFormatTextJSONSchemaConfigParam.description"),
    # of an answer that is sent back
    *("EasyInputMessageParam.type", "EasyInputMessageParam.phase", "Message.type", "Message.status"),
    *("ResponseFunctionToolCallParam.id", "ResponseFunctionToolCallParam.status"),
    *("FunctionCallOutput.id", "FunctionCallOutput.status"),
}
"""Fields that change nothing, by their nature; docs/serving.md tells them."""

OF_THE_ANSWER = {
    *("stream", "stream_options", "StreamOptions.include_obfuscation"),
    *("ChatCompletionStreamOptionsParam.include_usage", "ChatCompletionStreamOptionsParam.include_obfuscation"),
}
"""Fields that say how it is told, and nothing to the model."""

LOGPROBS = ["message.output_text.logprobs"]
DIALECTS: dict[str, tuple[Any, type[Strict], dict[str, Any]]] = {
    "chat": (
        chat_create_params.CompletionCreateParamsStreaming,
        ChatRequest,
        {"messages": HELLO, "stream": True, "logprobs": True, "tools": [FUNCTION]},
    ),
    "completions": (
        completion_create_params.CompletionCreateParamsStreaming,
        CompletionRequest,
        {"prompt": "hello", "stream": True},
    ),
    "responses": (
        response_create_params.ResponseCreateParamsStreaming,
        ResponsesRequest,
        {"input": "hello", "stream": True, "include": LOGPROBS, "tools": [FLAT]},
    ),
    "embeddings": (embedding_create_params.EmbeddingCreateParams, EmbeddingRequest, {"input": "hello"}),
    "moderations": (moderation_create_params.ModerationCreateParams, ModerationRequest, {"input": "hello"}),
    "messages": (message_create_params.MessageCreateParamsStreaming, MessagesRequest, CLAUDE | {"max_tokens": 9}),
    "count_tokens": (message_count_tokens_params.MessageCountTokensParams, CountRequest, CLAUDE),
}


def asked(model: type[Strict], body: dict[str, Any]) -> Any:
    """What is asked with a body, or why it is refused."""
    try:
        request: Any = model.model_validate(body)
        ask = getattr(request, "ask", None) or getattr(request, "asks", None)
        return ask("") if ask else request
    except ValidationError as error:
        return mistake(error.errors(), body)
    except Refusal as refusal:
        return refusal


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_field_is_honoured_or_refused_by_name(dialect: str) -> None:
    params, model, body = DIALECTS[dialect]
    heard: dict[str, bool] = defaultdict(bool)
    for name, hint in get_type_hints(params, include_extras=True).items():
        without = {field: value for field, value in body.items() if field != name}
        for sample in samples(hint):
            told = asked(model, body | {name: sample.value})
            if isinstance(told, Refusal):
                assert told.code != "unknown_parameter", (sample.value, told.message)
                assert told.message.startswith(name) or repr(name) in told.message, (sample.value, told.message)
                continue
            plain = asked(model, without | {name: sample.plain} if sample.changed else without)
            if sample.changed == NULL:
                assert told == plain, sample.value
            elif sample.value not in (None, {}):
                heard[sample.changed or name] |= told != plain
    assert len(heard) > 1
    assert {name for name, changes in heard.items() if not changes} <= HINTS | OF_THE_ANSWER
