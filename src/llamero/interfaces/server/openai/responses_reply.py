"""A response of `/v1/responses` as it grows: its items, and every change as an event of a stream tells it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

from llamero.interfaces.server.answer import Begun, CallArguments, CallBegun, Ended, Event, Spelt, Text, Usage
from llamero.interfaces.server.openai.logprobs import chat_logprobs
from llamero.interfaces.server.openai.responses_request import ResponsesRequest
from llamero.interfaces.server.refusals import Refusal

Change = tuple[str, dict[str, Any]]


class Draft:
    """A response on its way. `push` says what an event changes, as the events of a stream: (type, fields)."""

    def __init__(self, request: ResponsesRequest) -> None:
        self._items: list[dict[str, Any]] = []
        self._growing = False  # whether the last item is
        self._held: list[Spelt] = []  # tokens whose text is yet to come
        self._body = _settings(request) | {"output": self._items}

    @property
    def body(self) -> dict[str, Any]:
        """The response as it stands."""
        return self._body | {"output": list(self._items)}

    def push(self, event: Event) -> Iterator[Change]:
        """What changes with one more event."""
        match event:
            case Begun():
                self._body["model"] = event.model
                yield "response.created", {"response": self.body}
                yield "response.in_progress", {"response": self.body}
            case Text(text=text, logprobs=logprobs):
                self._held += logprobs
                if text:
                    yield from self._say(text)
            case CallBegun(id=name, name=function):
                self._held.clear()
                called = {"call_id": name, "name": function, "arguments": ""}
                yield from self._add({"type": "function_call"} | called, "fc")
            case CallArguments(text=text):
                self._held.clear()  # only texts have logprobs
                self._items[-1]["arguments"] += text
                yield "response.function_call_arguments.delta", self._place() | {"delta": text}
            case Ended():
                cut = event.reason == "length"
                status = "incomplete" if cut else "completed"
                yield from self._close(status)
                details = {"incomplete_details": {"reason": "max_output_tokens"}} if cut else {}
                self._body |= {"status": status, "usage": _usage(event.usage)} | details
                yield f"response.{status}", {"response": self.body}

    def fail(self, refusal: Refusal) -> Iterator[Change]:
        """It went wrong in the middle."""
        if self._growing:
            self._items[-1]["status"] = "incomplete"
        error = {"code": "server_error" if refusal.status >= 500 else "invalid_prompt", "message": refusal.message}
        self._body |= {"status": "failed", "error": error}
        yield "response.failed", {"response": self.body}

    def _say(self, text: str) -> Iterator[Change]:
        if not self._growing or self._items[-1]["type"] != "message":
            yield from self._add({"type": "message", "role": "assistant", "content": []}, "msg")
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield "response.content_part.added", self._part() | {"part": dict(part)}
            self._items[-1]["content"].append(part)
        told = chat_logprobs(self._held)["content"]
        self._held.clear()
        part = self._items[-1]["content"][0]
        part["text"] += text
        part["logprobs"] += told
        yield "response.output_text.delta", self._part() | {"delta": text, "logprobs": told}

    def _add(self, item: dict[str, Any], prefix: str) -> Iterator[Change]:
        yield from self._close("completed")
        self._items.append({"id": f"{prefix}_{secrets.token_hex(12)}", "status": "in_progress"} | item)
        self._growing = True
        yield "response.output_item.added", {"output_index": len(self._items) - 1, "item": dict(self._items[-1])}

    def _close(self, status: str) -> Iterator[Change]:
        if not self._growing:
            return
        self._growing = False
        item = self._items[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            done = {"text": part["text"], "logprobs": part["logprobs"]}
            yield "response.output_text.done", self._part() | done
            yield "response.content_part.done", self._part() | {"part": part}
        else:
            named = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", self._place() | named
        yield "response.output_item.done", {"output_index": len(self._items) - 1, "item": item}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}

    def _part(self) -> dict[str, Any]:
        return self._place() | {"content_index": 0}


def response(request: ResponsesRequest, events: Iterable[Event]) -> dict[str, Any]:
    """All events of a request as one body."""
    draft = Draft(request)
    for event in events:
        for _ in draft.push(event):
            pass
    return draft.body


def _settings(request: ResponsesRequest) -> dict[str, Any]:
    """The response before it has begun."""
    ask_text = request.text.model_dump(by_alias=True, exclude_none=True) if request.text else {}
    choice = request.tool_choice
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": request.model,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": request.sampling().temperature,
        "text": {"format": {"type": "text"}} | ask_text,
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump() if choice else "auto",
        "tools": [_tool(tool.model_dump()) for tool in request.tools or ()],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.sampling().top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
    }


def _tool(told: dict[str, Any]) -> dict[str, Any]:
    return told | {"strict": bool(told["strict"])}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
