"""The meaning of texts as vectors: read beside what a model writes, one request after another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamero.errors import ContextOverflow, LlameroError
from llamero.interfaces.prompts import text_prompt
from llamero.interfaces.server.library import Library, Served
from llamero.interfaces.server.refusals import Refusal


@dataclass(frozen=True)
class Embedded:
    """vectors: (texts, dim), each of length 1. model: the name that answered. tokens: read in all."""

    vectors: NDArray[np.float32]
    model: str
    tokens: int


async def embed(
    library: Library, model: str, texts: Sequence[str | Sequence[int]], dimensions: int | None = None
) -> Embedded:
    """The vectors of texts, or of token ids. dimensions: the width that is wanted, if one is.

    It happens in a thread, which takes turns with the steps of the model's worker; cancelling ends it after a chunk.
    Raises QueueFull, ModelNotFound, SettingError; before any work ContextOverflow for a text that is too long, and
    Refusal for another width than the model's.
    """
    async with library.use(model) as served:
        width = served.llama.config.dim
        if dimensions not in (None, width):
            message = f"dimensions: this model's vectors have {width}, and cannot be shortened"
            raise Refusal(400, message, code="unsupported_parameter", param="dimensions")
        stop = threading.Event()
        try:
            return await served.worker.aside(_embed, served, texts, stop)
        finally:
            stop.set()


class _Stopped(LlameroError):
    """Nobody waits for the vectors any more."""


def _embed(served: Served, texts: Sequence[str | Sequence[int]], stop: threading.Event) -> Embedded:
    llama = served.llama

    def look(*_: int) -> None:
        if stop.is_set():
            raise _Stopped("stopped")

    prompts = [text_prompt(llama.tokenizer, text).ids for text in texts]
    for number, ids in enumerate(prompts):
        if len(ids) > llama.context:
            message = f"text {number} has {len(ids)} tokens, and the context is {llama.context}: shorten it"
            raise ContextOverflow(message, tokens=len(ids), context=llama.context)
    vectors = llama.engine.embeddings(prompts, look, served.adapter)
    return Embedded(vectors, served.full_name, sum(map(len, prompts)))
