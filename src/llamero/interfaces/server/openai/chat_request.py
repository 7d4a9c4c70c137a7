"""The body of `/v1/chat/completions`, and what is asked with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from llamero.interfaces.server.answer import Ask
from llamero.interfaces.server.openai.generation import ELSEWHERE, GenerationFields
from llamero.interfaces.server.openai.hints import Hints
from llamero.interfaces.server.openai.messages import CACHED, ChatMessage, template_message
from llamero.interfaces.server.openai.tools import FunctionTool, ResponseFormat, ToolChoice, form, tools
from llamero.interfaces.server.refusals import Refusal


class ChatRequest(GenerationFields, Hints):
    """A conversation whose next message is wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 60},
                {"messages": [{"role": "user", "content": "Is the sky blue?"}], "regex": "yes|no", "stream": True},
            ]
        }
    )

    refused: ClassVar[Mapping[str, str]] = {
        **ELSEWHERE,
        "audio": "models write text only",
        "chat_template_kwargs": "here they are called template_variables",
        "format": "ask for it with response_format",
        "function_call": "it is deprecated; use tool_choice",
        "functions": "it is deprecated; use tools",
        "guided_json": "ask for it with response_format",
        "json_schema": "ask for it with response_format",
        "moderation": "ask /v1/moderations",
        "prediction": "drafts are found in the prompt without it",
        "prompt_cache_options": CACHED,
        "reasoning_effort": "Llamas do not reason apart from their answers",
        "verbosity": "say in a message how long the answer is to be",
        "web_search_options": "there is no search",
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_tokens: int | None = Field(None, ge=1, le=2**31, description="at most so many tokens in each answer")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31, description="the same, by its newer name")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    template_variables: Annotated[dict[str, Any], Field(max_length=64)] | None = Field(
        None, description="llamero's own: variables of the chat template, such as date_string"
    )
    modalities: list[Literal["text"]] | None = Field(None, description="a hint; text is what models write")

    def ask(self, owner: str) -> Ask:
        """What is asked. Raises Refusal for fields that contradict each other."""
        if self.top_logprobs and not self.logprobs:
            raise Refusal(400, "top_logprobs needs logprobs: true", param="top_logprobs")
        return replace(
            self.begun(owner),
            messages=tuple(template_message(message) for message in self.messages),
            tools=tools(self.tools, self.tool_choice, self.parallel_tool_calls),
            form=form(self.response_format, self.regex, self.grammar),
            max_tokens=self._most(),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            template_variables=self.template_variables or {},
        )

    def _most(self) -> int | None:
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) > 1:
            raise Refusal(400, "max_tokens and max_completion_tokens differ; give one", param="max_tokens")
        return given.pop() if given else None
