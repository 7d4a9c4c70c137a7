"""The body of `/v1/messages`, and what is asked with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from llamero.engine.sampling import Sampling
from llamero.interfaces.server.answer import Ask, Form
from llamero.interfaces.server.anthropic.content import CacheControl, MessageParam, System, template_messages
from llamero.interfaces.server.anthropic.tools import ToolChoice, ToolParam, tools
from llamero.interfaces.server.fields import StopText, Strict, given
from llamero.interfaces.server.refusals import Refusal


class NoThinking(Strict):
    """Llamas do not think apart from their answers."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("enabled", "adaptive", "between_tools"), "Llamas do not think apart from their answers"
    )
    type: Literal["disabled"]


class JsonFormat(Strict):
    """JSON of this schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """The form of the answer."""

    refused: ClassVar[Mapping[str, str]] = {
        "effort": "Llamas make the same effort for every answer",
        "task_budget": "see max_tokens",
    }
    format: JsonFormat | None = None


class Metadata(Strict):
    """Who the user is: a hint, which changes nothing."""

    user_id: str | None = None


_REFUSED = {
    "billing_policy": "nothing is billed",
    "compaction": "choose what to send",
    "container": "there is no code execution",
    "context_management": "choose what to send",
    "diagnostics": "see the server's log and /metrics",
    "fallback_credit_token": "nothing is billed",
    "fallbacks": "the model that was asked for answers",
    "inference_geo": "it runs where it runs",
    "mcp_servers": "tools are the client's",
    "prefill": "answers begin as the model begins them",
    "thread": "nothing is stored; send the whole conversation (to `tool_runner` give thread=False)",
    "user_profile_id": "there are no profiles",
    "workspace_id": "there are no workspaces",
}


class CountRequest(Strict):
    """A conversation whose tokens are counted."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "", "messages": [{"role": "user", "content": "Tell me a story."}]}]}
    )

    refused: ClassVar[Mapping[str, str]] = _REFUSED
    model: Annotated[str, Field(max_length=256, description="its name; the first one where it is empty")]
    messages: Annotated[list[MessageParam], Field(min_length=1, max_length=4096)]
    system: System | None = None
    tools: Annotated[list[ToolParam], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: NoThinking | None = Field(None, description="a hint; there is none")
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = Field(None, description="a hint")
    speed: Literal["standard"] | None = Field(None, description="a hint; there is one speed")

    def ask(self, owner: str) -> Ask:
        """What is asked. Raises Refusal for what contradicts itself."""
        if self.messages[-1].role != "user":
            raise Refusal(400, "messages: the last one must be the user's; answers are not begun for the model")
        wanted = self.output_config.format if self.output_config else None
        return Ask(
            model=self.model,
            owner=owner,
            messages=tuple(template_messages(self.system, self.messages)),
            tools=tools(self.tools, self.tool_choice),
            form=Form(kind="json_schema", source=wanted.schema_) if wanted else None,
        )


class MessagesRequest(CountRequest):
    """A conversation whose next message is wanted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "", "max_tokens": 60, "messages": [{"role": "user", "content": "Tell me a story."}]},
            ]
        }
    )

    max_tokens: int = Field(ge=1, le=2**31, description="at most so many tokens")
    stop_sequences: Annotated[list[StopText], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1, description="0 takes the likeliest token; 0.6 unless given")
    top_k: int | None = Field(None, ge=0, le=2**31)
    top_p: float | None = Field(None, ge=0, le=1, description="0.9 unless given")
    metadata: Metadata | None = Field(None, description="a hint; changes nothing")
    service_tier: Literal["auto", "standard_only"] | None = Field(None, description="a hint; there is one tier")

    def ask(self, owner: str) -> Ask:
        """What is asked. Raises Refusal for what contradicts itself."""
        return replace(
            super().ask(owner),
            sampling=Sampling(**given(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)),
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
        )
