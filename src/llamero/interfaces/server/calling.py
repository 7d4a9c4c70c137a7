"""Functions that a model may call: how they are shown to it, held to, and found in what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamero.engine.constrain import enforced, json_within
from llamero.errors import SettingError
from llamero.interfaces.calls.grammar import call_form
from llamero.interfaces.calls.parser import MARKS, CallParser
from llamero.interfaces.calls.syntax import Syntax
from llamero.interfaces.server.answer import Form, Tools


def shown(tools: Tools | None) -> list[dict[str, Any]] | None:
    """The functions as a chat template shows them; none where none may be called."""
    if tools is None or tools.choice == "none":
        return None
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools.functions
    ]


def called_form(tools: Tools | None, form: Form | None, syntax: Syntax | None) -> Form | None:
    """The form of an answer where there are functions: calls where they are required, else what was asked for.

    An answer that may be a call or JSON of some form is either; one that may be words or a call of a strict function
    calls it as its schema says. syntax: the model's. Raises SettingError for a model that is shown no functions, and
    for forms that do not go together with calls.
    """
    if tools is None or tools.choice == "none":
        return form
    if syntax is None:
        raise SettingError("tools: the chat template of this model shows no functions, so it cannot call any")
    if tools.choice == "auto" and form is None:
        strict = any(tool.strict for tool in tools.functions)
        return call_form(syntax, tools.functions, several=tools.parallel, optional=True) if strict else None
    functions = [tool for tool in tools.functions if tools.choice != "named" or tool.name == tools.name]
    calls = call_form(syntax, functions, several=tools.parallel)
    if form is None:
        return calls
    if tools.choice != "auto" or form.kind not in ("json_object", "json_schema"):
        raise SettingError(f"{form.kind} does not go together with tools and tool_choice {tools.choice!r}")
    schema = {"type": "object"} if form.source is None else form.source
    assert isinstance(schema, Mapping | bool)
    source = str(calls.source).replace("start: ", "start: answer | ", 1)
    return Form(kind="grammar", source=f"{source}answer: %json {json_within(enforced(schema))}\n")


def parser_of(tools: Tools | None, index: int) -> CallParser | None:
    """What finds calls in answer `index`; None where none may be made."""
    if tools is None or tools.choice == "none":
        return None
    return CallParser({tool.name: tuple(tool.parameters.get("properties", {})) for tool in tools.functions}, index)


def marks_of(special_tokens: Mapping[str, int]) -> dict[int, str]:
    """The control tokens that stand around calls, as text, which the parser must see."""
    return {special_tokens[mark]: mark for mark in MARKS if mark in special_tokens}
