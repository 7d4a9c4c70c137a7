"""The body of `/v1/completions`, and what is asked with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from llamero.interfaces.server.answer import Ask
from llamero.interfaces.server.openai.sampling import SamplingFields, StreamOptions
from llamero.interfaces.server.openai.tools import Source, form
from llamero.interfaces.server.refusals import Refusal

# Long lists are left at the first mistake: to collect a million would hold up everybody.
Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, max_length=2**20, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=256, fail_fast=True)]
IdLists = Annotated[list[Ids], Field(min_length=1, max_length=256, fail_fast=True)]
_MOST = 256  # answers to one request
_TOKENS = 16  # OpenAI's own default


class CompletionRequest(SamplingFields):
    """Texts that are to be continued."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0}]}
    )

    refused: ClassVar[Mapping[str, str]] = {
        "suffix": "models of this server continue a text, and fill no gap",
        "best_of": "ask for n answers and choose",
    }

    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    prompt: str | Ids | Texts | IdLists = Field(description="a text or token ids, or a list of such")
    n: int | None = Field(None, ge=1, le=64, description="answers to each prompt; the i-th has choices i * n and up")
    max_tokens: int | None = Field(
        None, ge=0, le=2**31, description="at most so many tokens in each answer; 16. With echo it may be 0"
    )
    logprobs: int | None = Field(None, ge=0, le=20, description="logarithms of the tokens, and of so many likeliest")
    echo: bool | None = Field(None, description="begin each answer with its prompt, logprobs included")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    special: bool | None = Field(
        None, description="llamero's own: <|eot_id|> and its like in a text are those tokens; otherwise plain text"
    )
    regex: Source | None = Field(None, description="llamero's own: the whole answer is of this regular expression")
    grammar: Source | None = Field(None, description="llamero's own: a Lark grammar, as llguidance reads it")
    user: str | None = Field(None, description="a hint; changes nothing")

    def asks(self, owner: str) -> list[Ask]:
        """What is asked, one for each prompt. Raises Refusal for fields that contradict each other."""
        if self.max_tokens == 0 and not self.echo:
            raise Refusal(400, "max_tokens may be 0 only with echo", param="max_tokens")
        if self.stream_options and not self.stream:
            raise Refusal(400, "stream_options needs stream: true", param="stream_options")
        prompts = self._prompts()
        if len(prompts) * (self.n or 1) > _MOST:
            raise Refusal(400, f"{len(prompts)} prompts with n {self.n} make more than {_MOST} answers", param="n")
        return [
            Ask(
                model=self.model,
                owner=owner,
                prompt=prompt,
                form=form(None, self.regex, self.grammar),
                n=self.n or 1,
                sampling=self.sampling(),
                max_tokens=_TOKENS if self.max_tokens is None else self.max_tokens,
                stop=self.stops(),
                logprobs=self.logprobs,
                special=bool(self.special),
                echo=bool(self.echo),
                overflow=self.overflow or "error",
            )
            for prompt in prompts
        ]

    @property
    def usage_told(self) -> bool:
        """Whether a stream ends with the tokens used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def _prompts(self) -> list[str | tuple[int, ...]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(part, int) for part in self.prompt):
            return [tuple(part for part in self.prompt if isinstance(part, int))]
        return [part if isinstance(part, str) else tuple(part) for part in self.prompt if not isinstance(part, int)]
