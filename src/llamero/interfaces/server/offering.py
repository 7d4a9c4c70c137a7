"""The functions that a request offers, as an ask holds them: one check for every dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from llamero.interfaces.server.answer import Tool, Tools
from llamero.interfaces.server.refusals import Refusal


def offered(
    functions: Sequence[Tool],
    choice: Literal["auto", "none", "required"],
    *,
    named: str | None = None,
    parallel: bool,
    word: str = "functions",
) -> Tools | None:
    """The functions and how they may be called; None where there are none.

    named: the one that is to be called, whatever `choice` says. word: what the dialect calls them. Raises Refusal for
    a call of what is not there, for two of one name, and for parameters that have no names.
    """
    if not functions:
        if choice == "required" or named is not None:
            raise Refusal(400, "tool_choice asks for a call, and there are no tools", param="tool_choice")
        return None
    names = [function.name for function in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Refusal(400, f"tools: two {word} are named {twice!r}", param="tools")
    for function in functions:
        if not isinstance(function.parameters.get("properties", {}), Mapping):
            raise Refusal(400, f"tools: the properties of {function.name!r} must be schemas by name", param="tools")
    if named is None:
        return Tools(functions=tuple(functions), choice=choice, parallel=parallel)
    if named not in names:
        raise Refusal(400, f"tool_choice names {named!r}, which is not among the tools", param="tool_choice")
    return Tools(functions=tuple(functions), choice="named", name=named, parallel=parallel)
