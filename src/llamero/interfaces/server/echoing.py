"""Answers that begin with their prompt: its text, and how likely the model found each of its tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from llamero.engine.sampling import Choice
from llamero.interfaces.server.answer import Ask, Spelt, Text
from llamero.interfaces.server.library import Served
from llamero.interfaces.server.spelling import spelt


async def echo_of(served: Served, ask: Ask, ids: Sequence[int]) -> Text | None:
    """What an answer to this ask says first, if it says its prompt. Logprobs are made beside the steps of the model.

    Raises QueueFull, and ContextOverflow for a prompt of more tokens than the context.
    """
    if not ask.echo:
        return None
    text = ask.prompt if isinstance(ask.prompt, str) else served.llama.detokenize(ids)
    if ask.logprobs is None:
        return Text(0, text)
    stop = threading.Event()
    try:
        return Text(0, text, await served.worker.aside(_scores, served, ids, ask.logprobs, stop))
    finally:
        stop.set()


def _scores(served: Served, ids: Sequence[int], top: int, stop: threading.Event) -> tuple[Spelt, ...]:
    """The tokens of a prompt. The first has no logarithm, and a control token no text."""
    tokenizer = served.llama.tokenizer

    def spell(token: int) -> bytes:
        return b"" if token in tokenizer.control_ids else tokenizer.piece(token)

    told = [spelt(Choice(ids[0]), spell)]
    for choice in served.llama.engine.scores(ids, top, adapter=served.adapter):
        if stop.is_set():  # nobody waits any more
            break
        told.append(spelt(choice, spell))
    return tuple(told)
