"""One request and one answer in the server's own words: what every dialect translates to, and from. Pure data.

A dialect (OpenAI's chat, completions, responses; Anthropic's messages) turns its JSON into an `Ask`, and the events of
its answer back into JSON. What lies between, prompts, tools, constraints, the engine, is `answering.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from llamero.engine.context import Overflow
from llamero.engine.form import Form as Form  # part of these words
from llamero.engine.sampling import Sampling
from llamero.interfaces.calls.events import CallArguments as CallArguments
from llamero.interfaces.calls.events import CallBegun as CallBegun

Finish: TypeAlias = Literal["stop", "length", "tool_calls"]
Message: TypeAlias = Mapping[str, Any]
"""As a chat template takes it: role, content (text), tool_calls, tool_call_id, name."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that may be called; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The functions at hand. choice: "auto", "none", "required", or the name of the one to call (`named`)."""

    functions: tuple[Tool, ...]
    choice: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request.

    model: its name, or NAME:ADAPTER; "" is the library's first. owner: who asks (a key's name, "" where there are
    none): beginnings are shared, and the queue is fair, between owners. Either `messages` or `prompt` (text or ids) is
    given. n: how many answers. logprobs, overflow: as in `Request`.
    """

    model: str
    owner: str = ""
    messages: tuple[Message, ...] | None = None
    prompt: str | tuple[int, ...] | None = None
    tools: Tools | None = None
    form: Form | None = None
    n: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    special: bool = False  # <|eot_id|> and its like in a prompt that is text are those tokens
    echo: bool = False  # the answer begins with its prompt, logprobs included; max_tokens may be 0 then
    overflow: Overflow = "error"
    template_variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of all prompts, of these found in the cache, and of all answers up to now."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dropped_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one answer: until its first token, its wait for a turn included, and from there until its last.

    tokens: how many it has.
    """

    reading: float = 0.0
    writing: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Spelt:
    """A token with its bytes and the natural logarithm of the probability that the model gave it.

    logprob: None for the first token of all, which nothing comes before. top: the likeliest tokens in its place,
    likeliest first.
    """

    id: int
    spelling: bytes
    logprob: float | None
    top: tuple[Spelt, ...] = ()


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being loaded: bytes read, bytes in all."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The request was accepted and waits for its turn.

    model: the name that answers. fingerprint: of the model, its settings and the program. prompt_tokens: of all
    prompts.
    """

    model: str
    fingerprint: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The prompt is being read: tokens read or found, tokens in all."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Text:
    """More of answer `index`. It may be empty where logprobs are told."""

    index: int
    text: str
    logprobs: tuple[Spelt, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """Answer `index` is over. usage: of all answers so far, so that the last one's is the whole.

    stop: the stop string that ended it, if one did. seed: in use. times: this answer's.
    """

    index: int
    reason: Finish
    usage: Usage
    stop: str | None = None
    seed: int | None = None
    times: Times = Times()


Event: TypeAlias = Loading | Begun | Reading | Text | CallBegun | CallArguments | Ended
