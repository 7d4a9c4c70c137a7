"""The chunks of OpenAI's streams of choices: what chats and completions have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llamero.interfaces.server.answer import Begun, Ended, Usage
from llamero.interfaces.server.json_bodies import json_text
from llamero.interfaces.server.openai.errors import error_body
from llamero.interfaces.server.openai.reply import Head, timings_body, usage_body
from llamero.interfaces.server.refusals import Refusal
from llamero.interfaces.server.responding import data


class Chunks:
    """Writes chunks with one head. usage: told at the end, and null until then."""

    def __init__(self, kind: str, prefix: str, *, usage: bool) -> None:
        self._head = Head(kind, prefix)
        self._start = ""  # of every chunk, up to the choices: written once
        self._tell_usage = usage
        self._usage = Usage()

    def begun(self, event: Begun) -> None:
        """The request was accepted."""
        self._head.begun(event)
        self._start = json_text(self._head.fields()).removesuffix("}")

    def chunk(self, choice: dict[str, Any], **more: Any) -> str:
        """More of one answer. more: fields beside the choices."""
        if self._tell_usage:
            more["usage"] = None
        return self._frame({"choices": [choice]} | more)

    def last(self, choice: dict[str, Any], event: Ended) -> str:
        """The last chunk of one answer."""
        self._usage = event.usage
        return self.chunk(choice, timings=timings_body(event.times))

    def end(self) -> Iterable[str]:
        """The usage, and the end."""
        if self._tell_usage:
            yield self._frame({"choices": [], "usage": usage_body(self._usage)})
        yield "data: [DONE]\n\n"

    def _frame(self, rest: dict[str, Any]) -> str:
        return f"data: {self._start},{json_text(rest)[1:]}\n\n"

    def failed(self, refusal: Refusal) -> Iterable[str]:
        """An error in the middle: the `openai` client raises it."""
        yield data(error_body(refusal))
