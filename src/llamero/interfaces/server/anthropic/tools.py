"""Tools and the choice among them, as Anthropic's requests give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from llamero.interfaces.server.answer import Tool, Tools
from llamero.interfaces.server.anthropic.content import CacheControl
from llamero.interfaces.server.fields import Strict
from llamero.interfaces.server.offering import offered

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class ToolParam(Strict):
    """A tool of the client's, and the JSON schema of its input. strict: the input must be of this schema."""

    refused: ClassVar[Mapping[str, str]] = {
        "allowed_callers": "the model calls directly",
        "defer_loading": "all tools are shown to the model",
        "input_examples": "say in the description what an input looks like",
    }
    type: Literal["custom"] | None = Field(None, description="the client's own; there are no others")
    name: Name
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: CacheControl | None = Field(None, description="a hint")
    eager_input_streaming: bool | None = Field(None, description="a hint; inputs are always streamed")


class FreeChoice(Strict):
    """auto: the model chooses whether to call; any: it must; none: it must not."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = Field(None, description="one call at most")


class NamedChoice(Strict):
    """The one tool that is to be called."""

    type: Literal["tool"]
    name: Name
    disable_parallel_tool_use: bool | None = Field(None, description="one call at most")


ToolChoice = Annotated[FreeChoice | NamedChoice, Field(discriminator="type")]
_CHOICES: dict[str, Literal["auto", "required", "none"]] = {"auto": "auto", "any": "required", "none": "none"}


def tools(given: Sequence[ToolParam] | None, choice: FreeChoice | NamedChoice | None) -> Tools | None:
    """The tools and how they may be called."""
    functions = [
        Tool(
            name=tool.name,
            description=tool.description or "",
            parameters=tool.input_schema,
            strict=bool(tool.strict),
        )
        for tool in given or ()
    ]
    parallel = not (choice and choice.disable_parallel_tool_use)
    if isinstance(choice, NamedChoice):
        return offered(functions, "required", named=choice.name, parallel=parallel, word="tools")
    return offered(functions, _CHOICES[choice.type] if choice else "auto", parallel=parallel, word="tools")
