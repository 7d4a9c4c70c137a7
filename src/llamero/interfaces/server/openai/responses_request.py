"""The body of `/v1/responses`, and what is asked with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from llamero.engine.sampling import Sampling
from llamero.interfaces.server.answer import Ask, Form
from llamero.interfaces.server.fields import No, Strict, given
from llamero.interfaces.server.openai.hints import Hints
from llamero.interfaces.server.openai.messages import CACHED
from llamero.interfaces.server.openai.responses_input import Input, template_messages
from llamero.interfaces.server.openai.tools import (
    Function,
    FunctionName,
    FunctionTool,
    JsonObjectForm,
    Name,
    NamedTool,
    TextForm,
    ToolChoice,
    tools,
)
from llamero.interfaces.server.refusals import Refusal


class ResponseTool(Function):
    """A function; the one kind of tool that there is."""

    refused: ClassVar[Mapping[str, str]] = {
        "allowed_callers": "the model calls directly",
        "async": "calls are made one after another",
        "defer_loading": "all tools are shown to the model",
        "output_schema": "say in the description what the function gives",
    }
    type: Literal["function"]


class NamedFunction(Strict):
    """The one function that is to be called."""

    type: Literal["function"]
    name: Name


class SchemaForm(Strict):
    """JSON of this schema; `strict` or not, answers follow it."""

    type: Literal["json_schema"]
    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = Field(None, description="a hint; say in the input what you want")
    strict: bool | None = None


class TextConfig(Strict):
    """The form of the answer."""

    refused: ClassVar[Mapping[str, str]] = {"verbosity": "say in the input how long the answer is to be"}
    format: Annotated[TextForm | JsonObjectForm | SchemaForm, Field(discriminator="type")] | None = None


class ResponseStreamOptions(Strict):
    """What a stream tells besides."""

    include_obfuscation: No | None = Field(None, description="a hint; nothing is obfuscated")


class ResponsesRequest(Hints):
    """What the model is given, whose response is wanted. Nothing is stored: each request brings all of its input."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": "Tell me a story.", "max_output_tokens": 60, "temperature": 0}]}
    )

    refused: ClassVar[Mapping[str, str]] = {
        "access_programs": "there are none",
        "background": "responses are not stored; stream them",
        "background_options": "responses are not stored; stream them",
        "context_management": "see truncation",
        "conversation": "nothing is stored; send the whole conversation as input",
        "image": "models write text only",
        "max_tool_calls": "calls are the client's; see parallel_tool_calls",
        "moderation": "ask /v1/moderations",
        "previous_response_id": "nothing is stored; send the whole conversation as input",
        "prompt": "there are no stored prompts",
        "prompt_cache_options": CACHED,
        "reasoning": "Llamas do not reason apart from their answers",
    }
    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    input: Input
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=2**31, description="at most so many tokens")
    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the likeliest token; 0.6 unless given")
    top_p: float | None = Field(None, ge=0, le=1, description="0.9 unless given")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="needs message.output_text.logprobs in include")
    include: list[Literal["message.output_text.logprobs"]] | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="auto leaves out the oldest messages where the context is too short; disabled refuses"
    )

    def ask(self, owner: str) -> Ask:
        """What is asked. Raises Refusal for fields that contradict each other."""
        if self.top_logprobs and not self.include:
            raise Refusal(400, "top_logprobs needs include: message.output_text.logprobs", param="top_logprobs")
        offers = [FunctionTool(type="function", function=_function(tool)) for tool in self.tools or ()]
        return Ask(
            model=self.model,
            owner=owner,
            messages=tuple(template_messages(self.instructions, self.input)),
            tools=tools(offers, self._choice(), self.parallel_tool_calls),
            form=self._form(),
            sampling=self.sampling(),
            max_tokens=self.max_output_tokens,
            logprobs=(self.top_logprobs or 0) if self.include else None,
            overflow="truncate" if self.truncation == "auto" else "error",
        )

    def sampling(self) -> Sampling:
        """The settings; what is not given has llamero's default."""
        return Sampling(**given(temperature=self.temperature, top_p=self.top_p))

    def _choice(self) -> ToolChoice | None:
        if not isinstance(self.tool_choice, NamedFunction):
            return self.tool_choice
        return NamedTool(type="function", function=FunctionName(name=self.tool_choice.name))

    def _form(self) -> Form | None:
        wanted = self.text.format if self.text else None
        if isinstance(wanted, JsonObjectForm):
            return Form(kind="json_object")
        return Form(kind="json_schema", source=wanted.schema_) if isinstance(wanted, SchemaForm) else None


def _function(tool: ResponseTool) -> Function:
    return Function(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
