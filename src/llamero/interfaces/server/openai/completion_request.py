"""The body of `/v1/completions`, and what is asked with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from llamero.interfaces.server.answer import Ask
from llamero.interfaces.server.openai.generation import ELSEWHERE, GenerationFields
from llamero.interfaces.server.openai.tools import form
from llamero.interfaces.server.refusals import Refusal

# Long lists are left at the first mistake: to collect a million would hold up everybody.
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=2**20, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True)]
IdLists = Annotated[list[Ids], Field(min_length=1, max_length=2048, fail_fast=True)]
_MOST = 256  # answers to one request
_TOKENS = 16  # OpenAI's own default


class CompletionRequest(GenerationFields):
    """Texts that are to be continued."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0}]}
    )

    refused: ClassVar[Mapping[str, str]] = {
        **ELSEWHERE,
        "suffix": "models of this server continue a text, and fill no gap",
        "best_of": "ask for n answers and choose",
    }

    prompt: str | Ids | Texts | IdLists = Field(description="a text or token ids, or a list of such")
    max_tokens: int | None = Field(
        None, ge=0, le=2**31, description="at most so many tokens in each answer; 16. With echo it may be 0"
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="logarithms of the tokens, and of so many likeliest")
    echo: bool | None = Field(None, description="begin each answer with its prompt, logprobs included")
    special: bool | None = Field(
        None, description="llamero's own: <|eot_id|> and its like in a text are those tokens; otherwise plain text"
    )
    user: str | None = Field(None, description="a hint; changes nothing")

    def asks(self, owner: str) -> list[Ask]:
        """What is asked, one for each prompt. Raises Refusal for fields that contradict each other."""
        if self.max_tokens == 0 and not self.echo:
            raise Refusal(400, "max_tokens may be 0 only with echo", param="max_tokens")
        prompts = self._prompts()
        if len(prompts) * (self.n or 1) > _MOST:
            raise Refusal(400, f"{len(prompts)} prompts with n {self.n} make more than {_MOST} answers", param="n")
        ask = replace(
            self.begun(owner),
            form=form(None, self.regex, self.grammar),
            max_tokens=_TOKENS if self.max_tokens is None else self.max_tokens,
            logprobs=self.logprobs,
            special=bool(self.special),
            echo=bool(self.echo),
        )
        return [replace(ask, prompt=prompt) for prompt in prompts]

    def _prompts(self) -> list[str | tuple[int, ...]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(part, int) for part in self.prompt):
            return [tuple(part for part in self.prompt if isinstance(part, int))]
        return [part if isinstance(part, str) else tuple(part) for part in self.prompt if not isinstance(part, int)]
