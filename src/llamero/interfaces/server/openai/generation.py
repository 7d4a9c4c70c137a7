"""The fields that chats and completions have in common: how words are chosen, which form they have, how all is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from llamero.engine.sampling import Sampling
from llamero.interfaces.server.answer import Ask
from llamero.interfaces.server.fields import No, StopText, Strict, given
from llamero.interfaces.server.openai.tools import Source
from llamero.interfaces.server.refusals import Refusal

Bias = dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]]

_SAME = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"),
    *("presence_penalty", "frequency_penalty", "seed"),
)


ELSEWHERE: Mapping[str, str] = {  # what other servers of this kind take besides OpenAI's fields
    "cache_prompt": "what was read is found again without it",
    "guided_grammar": "here it is called grammar",
    "guided_regex": "here it is called regex",
    "keep_alive": "the operator says how long a model stays loaded, with --keep-alive",
    "max_new_tokens": "here it is called max_tokens",
    "n_predict": "here it is called max_tokens",
    "num_ctx": "the operator says how large the context is, with --context",
    "num_predict": "here it is called max_tokens",
    "options": "what is in it is a field of the request itself here",
    "repetition_penalty": "here it is called repeat_penalty",
}


class StreamOptions(Strict):
    """What a stream tells besides."""

    include_usage: bool | None = Field(None, description="a last chunk without choices tells the tokens used")
    include_obfuscation: No | None = Field(None, description="a hint; nothing is obfuscated")


class GenerationFields(Strict):
    """How words are chosen, where an answer ends, and how it is told."""

    model: str = Field("", max_length=256, description="its name; the first one where none is given")
    n: int | None = Field(None, ge=1, le=64, description="answers to each prompt; the i-th has choices i * n and up")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2, description="0 takes the likeliest token; 0.6 unless given")
    top_p: float | None = Field(None, ge=0, le=1, description="0.9 unless given; 1 is off")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Bias | None = Field(None, max_length=1024, description="token id -> added to its logit")
    seed: int | None = Field(
        None, ge=-(2**63), le=2**63 - 1, description="repeats an answer; of n answers the i-th uses seed + i"
    )
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = Field(
        None, description="texts that end the answer and are not part of it, also where they span tokens"
    )
    top_k: int | None = Field(None, ge=0, le=2**31, description="llamero's own: the K likeliest tokens; 0 is off")
    min_p: float | None = Field(None, ge=0, le=1, description="llamero's own: least share of the likeliest token")
    typical_p: float | None = Field(None, ge=0, le=1, description="llamero's own: typical sampling; 1 is off")
    repeat_penalty: float | None = Field(None, ge=0.01, le=100, description="llamero's own: 1 is off")
    repeat_last_n: int | None = Field(None, ge=0, le=2**31, description="llamero's own: tokens that are recent (64)")
    regex: Source | None = Field(None, description="llamero's own: the whole answer is of this regular expression")
    grammar: Source | None = Field(None, description="llamero's own: a Lark grammar, as llguidance reads it")
    overflow: Literal["error", "truncate", "shift"] | None = Field(
        None,
        description="llamero's own: when the tokens do not fit the context, refuse, leave out the oldest, go on so",
    )

    @property
    def usage_told(self) -> bool:
        """Whether a stream ends with the tokens used."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def begun(self, owner: str) -> Ask:
        """What is asked by these fields; prompt and form are to come. Raises Refusal for what contradicts itself."""
        if self.stream_options and not self.stream:
            raise Refusal(400, "stream_options needs stream: true", param="stream_options")
        return Ask(
            model=self.model,
            owner=owner,
            n=self.n or 1,
            sampling=self._sampling(),
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            overflow=self.overflow or "error",
        )

    def _sampling(self) -> Sampling:
        """What is not given has llamero's default."""
        options = given(**{name: getattr(self, name) for name in _SAME})
        if self.logit_bias:
            options["logit_bias"] = {int(token): bias for token, bias in self.logit_bias.items()}
        return Sampling(**options)
