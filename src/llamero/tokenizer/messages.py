"""Chat messages as callers give them, checked and copied into the plain values a template may see.

The form is OpenAI's: `role`, `content` (text, or a list of text parts), `tool_calls`.
Knows nothing of templates or tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llamero.errors import TemplateError, nearest

ROLES = ("system", "user", "assistant", "tool", "ipython")
_RESULTS = ("tool", "ipython")  # their content may be any JSON value
_NESTING = 48  # of lists and mappings; a JSON schema needs a dozen


def checked_messages(messages: Sequence[Mapping[str, Any]], *, parts: bool = False) -> list[dict[str, Any]]:
    """A plain copy of a conversation, as a template can take it.

    `parts` says which form of content the template reads: a list of parts, or else one text; several text parts are
    joined by newlines, as llama.cpp and vLLM do. Arguments of tool calls given as JSON text (OpenAI's way) become
    mappings; an empty `tool_calls` is dropped. Raises TemplateError naming the message.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise TemplateError(f"messages must be a list of mappings, not {type(messages).__name__}")
    if not messages:
        raise TemplateError("there are no messages; give at least one")
    return [_message(message, f"message {index}", parts) for index, message in enumerate(messages)]


def one_call_each(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation for a template that takes one call in a message: call, result, call, result.

    A result belongs to the call of its `tool_call_id`, or else to the first that has none yet.
    """
    apart: list[dict[str, Any]] = []
    at = 0
    while at < len(messages):
        message, at = messages[at], at + 1
        calls = message.get("tool_calls", [])
        results: list[dict[str, Any]] = []
        while len(calls) > 1 and at < len(messages) and messages[at]["role"] in _RESULTS:
            results.append(messages[at])
            at += 1
        for index, call in enumerate(calls):
            apart.append({**message, "tool_calls": [call]} | ({"content": ""} if index else {}))
            named = [result for result in results if "id" in call and result.get("tool_call_id") == call["id"]]
            theirs = {other.get("id") for other in calls}
            loose = [result for result in results if result.get("tool_call_id") not in theirs]
            for result in (named or loose)[:1]:
                results.remove(result)
                apart.append(result)
        apart += results if calls else [message]
    return apart


def checked_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[Any] | None:
    """A plain copy of the tools' JSON schemas; None for none. Raises TemplateError naming the tool."""
    if not tools:
        return None
    for index, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise TemplateError(f"tool {index} must be a JSON schema (a mapping), not {type(tool).__name__}")
    return [plain(tool, f"tool {index}") for index, tool in enumerate(tools)]


def plain(value: Any, where: str, level: int = 0) -> Any:
    """A copy of `value` made of JSON's own types alone: templates must not get at methods of anything richer."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    if level >= _NESTING:
        raise TemplateError(f"{where} is nested more than {_NESTING} levels deep")
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}, {key!s:.80}", level + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]", level + 1) for index, item in enumerate(value)]
    raise TemplateError(f"{where} is a {type(value).__name__}; a template takes only JSON values")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TemplateError(f"{where}: keys must be text, not {type(key).__name__}")
    return str(key)


def _message(message: Mapping[str, Any], where: str, parts: bool) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TemplateError(f"{where} must be a mapping with role and content, not {type(message).__name__}")
    role = message.get("role")
    if role not in ROLES:
        hint = nearest(role, ROLES) if isinstance(role, str) else f"choose from {', '.join(ROLES)}"
        raise TemplateError(f"{where}: role {role!r:.80} is unknown; {hint}")
    copy: dict[str, Any] = plain(message, where)
    if not copy.get("tool_calls"):
        copy.pop("tool_calls", None)
    else:
        copy["tool_calls"] = _tool_calls(copy["tool_calls"], where)
    if copy.get("content") is None:
        if "tool_calls" not in copy:
            raise TemplateError(f"{where} ({role}) has no content")
    else:
        copy["content"] = _content(copy["content"], f"{where} ({role})", role in _RESULTS, parts)
    return copy


def _content(content: Any, where: str, result: bool, parts: bool) -> Any:
    """Content in the form the template reads."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if parts else content
    typed = isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content)
    if result and not (typed and content):
        return content
    if not isinstance(content, list):
        raise TemplateError(f"{where}: content must be text or a list of parts, not {type(content).__name__}")
    texts = [_part(part, f"{where}, part {index}") for index, part in enumerate(content)]
    return content if parts else "\n".join(texts)


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise TemplateError(f"{where}: content of type {kind!r:.80} is not supported; only text is")
    if not isinstance(part.get("text"), str):
        raise TemplateError(f"{where}: a part of type 'text' needs its text")
    text: str = part["text"]
    return text


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """The calls with their arguments as mappings where they are JSON text of one."""
    if not isinstance(calls, list):
        raise TemplateError(f"{where}: tool_calls must be a list, not {type(calls).__name__}")
    for index, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise TemplateError(f"{where}, tool call {index}: a call needs a function with a name")
        function["arguments"] = _arguments(function.get("arguments"), f"{where}, tool call {index}")
        calls[index] = (
            {"type": "function", **call, "function": function}
            if call is not function
            else {"type": "function", "function": function}
        )
    return calls


def _arguments(arguments: Any, where: str) -> Any:
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments  # a model's malformed call is shown to it as it was
        return plain(read, where) if isinstance(read, dict) else arguments
    if not isinstance(arguments, dict):
        raise TemplateError(f"{where}: arguments must be a mapping or its JSON text, not {type(arguments).__name__}")
    return arguments
