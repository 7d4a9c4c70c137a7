"""Functions that a model may call: how they are shown to it."""

from __future__ import annotations

from typing import Any

from llamero.interfaces.server.answer import Tools


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
