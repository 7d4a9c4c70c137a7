"""What `/v1/responses` answers, as the OpenAPI document describes it: a response, its items, the events of a stream."""

from __future__ import annotations

from typing import Any, Literal

from llamero.interfaces.server.fields import Shape
from llamero.interfaces.server.openai.logprobs import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputTextPart(Shape):
    """Text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprob]


class MessageOutput(Shape):
    """What the model says."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"]
    content: list[OutputTextPart]


class CallOutput(Shape):
    """What the model calls; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class InputDetails(Shape):
    """cached_tokens: found in the cache, and not read again."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Shape):
    """Llamas do not reason apart from their answers."""

    reasoning_tokens: int


class ResponseUsage(Shape):
    """Tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(Shape):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseError(Shape):
    """What went wrong."""

    code: str
    message: str


class ResponseBody(Shape):
    """The response, with the settings that it was made with."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Status
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[MessageOutput | CallOutput]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None


class ResponseEvent(Shape):
    """One event of the stream, of the name that its type is; they are numbered from 0.

    response: when it begins and ends. item: when one is added, and when it is done. part: the text of a message, when
    it is added and when it is done. delta: more of a text, or of a call's arguments.
    """

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    sequence_number: int
    response: ResponseBody | None = None
    item: MessageOutput | CallOutput | None = None
    part: OutputTextPart | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    logprobs: list[TokenLogprob] | None = None
    name: str | None = None
    arguments: str | None = None
