"""The options of an answer as keyword arguments: what `Llama.generate` and `Llama.chat` take, and mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from llamero.engine.context import Overflow
from llamero.engine.form import Schema
from llamero.engine.generate import Progress
from llamero.engine.sampling import SamplingOptions

Stop: TypeAlias = str | Sequence[str] | None


class _Options(SamplingOptions, total=False):
    max_tokens: int | None
    stop: Stop
    overflow: Overflow
    adapter: str | None
    json_schema: Schema | None
    regex: str | None
    grammar: str | None
    progress: Progress | None


class TextOptions(_Options, total=False):
    """See `Llama.generate`."""

    logprobs: int | None
    keep: int | None
    special: bool


class ChatOptions(_Options, total=False):
    """See `Llama.chat`."""

    tools: Sequence[Mapping[str, Any]] | None
    template_variables: Mapping[str, Any] | None
    logprobs: bool
    top_logprobs: int
