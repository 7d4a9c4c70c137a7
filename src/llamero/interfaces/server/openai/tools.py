"""Functions that may be called, and the form an answer must have, as OpenAI's chat requests give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from llamero.interfaces.server.answer import Form, Tool, Tools
from llamero.interfaces.server.calling import shown
from llamero.interfaces.server.fields import Strict
from llamero.interfaces.server.offering import offered
from llamero.interfaces.server.refusals import Refusal

Source = Annotated[str, Field(min_length=1, max_length=65536)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Strict):
    """A function, and the JSON schema of its arguments. strict: they must be of this schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    """The one kind of tool that there is."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """Which function."""

    name: Name


class NamedTool(Strict):
    """The one function that is to be called."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(Strict):
    """A schema with its name; `strict` or not, answers follow it."""

    name: Name
    description: str | None = Field(None, description="a hint; say in a message what you want")
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextForm(Strict):
    """Any text."""

    type: Literal["text"]


class JsonObjectForm(Strict):
    """A JSON object."""

    type: Literal["json_object"]


class JsonSchemaForm(Strict):
    """JSON of this schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextForm | JsonObjectForm | JsonSchemaForm, Field(discriminator="type")]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


def tools(given: Sequence[FunctionTool] | None, choice: ToolChoice | None, parallel: bool | None) -> Tools | None:
    """The functions and how they may be called."""
    functions = [
        Tool(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters=tool.function.parameters or {},
            strict=bool(tool.function.strict),
        )
        for tool in given or ()
    ]
    if isinstance(choice, NamedTool):
        return offered(functions, "required", named=choice.function.name, parallel=parallel is not False)
    return offered(functions, choice or "auto", parallel=parallel is not False)


def template_tools(given: Sequence[FunctionTool] | None) -> list[dict[str, Any]] | None:
    """The functions as a chat template shows them."""
    return shown(tools(given, None, None)) if given else None


def form(
    response_format: TextForm | JsonObjectForm | JsonSchemaForm | None, regex: str | None, grammar: str | None
) -> Form | None:
    """The form of the answer; at most one may be asked for."""
    forms: list[Form] = []
    if isinstance(response_format, JsonObjectForm):
        forms.append(Form(kind="json_object"))
    if isinstance(response_format, JsonSchemaForm):
        forms.append(Form(kind="json_schema", source=response_format.json_schema.schema_ or {}))
    if regex is not None:
        forms.append(Form(kind="regex", source=regex))
    if grammar is not None:
        forms.append(Form(kind="grammar", source=grammar))
    if len(forms) > 1:
        raise Refusal(400, "response_format, regex and grammar exclude each other", param="response_format")
    return forms[0] if forms else None
