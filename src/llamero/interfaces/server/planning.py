"""From what is asked to what the engine is given: prompts, constraints, runs. What takes long happens in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llamero.engine.constraint import Constraint
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Sampling
from llamero.errors import SettingError
from llamero.interfaces.prompts import Prompt, chat_prompt, chat_room, text_prompt
from llamero.interfaces.server.answer import Ask, Form, Text
from llamero.interfaces.server.calling import called_form, shown
from llamero.interfaces.server.echoing import echo_of
from llamero.interfaces.server.library import Served

_SHORT = 1000  # characters or ids: less work than handing it to a thread


@dataclass(frozen=True)
class Plan:
    """An ask with its prompt, what its answers say first, and a run for each of them (none for no tokens).

    first: the number of its first answer.
    """

    ask: Ask
    prompt: Prompt
    echo: Text | None
    runs: list[Run]
    first: int


async def plans_of(served: Served, asks: Sequence[Ask]) -> list[Plan]:
    """The asks as runs, checked. Raises before any work. Asks of one form share its constraint."""
    plans: list[Plan] = []
    form: Form | None = None
    constraint: Constraint | None = None
    first = 0
    for ask in asks:
        prompt = await prompt_of(served, ask)
        wanted = ask.form
        if ask.tools:  # its schemas may be long
            wanted = await asyncio.to_thread(called_form, ask.tools, ask.form, served.call_syntax)
        if wanted != form:
            form = wanted
            constraint = await asyncio.to_thread(served.llama.make_constraint, form) if form else None
        runs = _runs(served, ask, request_of(served, ask, prompt, constraint)) if ask.max_tokens != 0 else []
        plans.append(Plan(ask, prompt, await echo_of(served, ask, prompt.ids), runs, first))
        first += ask.n
    return plans


async def prompt_of(served: Served, ask: Ask) -> Prompt:
    """The ids that the model will read. Raises SettingError, TemplateError."""
    tokenizer = served.llama.tokenizer
    if ask.prompt is not None:
        if len(ask.prompt) <= _SHORT:
            return text_prompt(tokenizer, ask.prompt, special=ask.special)
        return await asyncio.to_thread(text_prompt, tokenizer, ask.prompt, special=ask.special)
    if ask.messages is None:
        raise SettingError("there is neither a prompt nor messages")
    return await asyncio.to_thread(_chat, served, ask)


def request_of(served: Served, ask: Ask, prompt: Prompt, constraint: Constraint | None = None) -> Request:
    """What the engine is asked for."""
    return Request(
        prompt=tuple(prompt.ids),
        sampling=ask.sampling,
        max_tokens=ask.max_tokens,
        stop_ids=served.llama.tokenizer.stop_ids,
        overflow=ask.overflow,
        keep=prompt.keep,
        logprobs=ask.logprobs,
        constraint=constraint,
        owner=ask.owner,
        adapter=served.adapter,
    )


def _runs(served: Served, ask: Ask, request: Request) -> list[Run]:
    return [served.llama.engine.plan(replace(request, sampling=_seeded(ask.sampling, i))) for i in range(ask.n)]


def _seeded(sampling: Sampling, index: int) -> Sampling:
    """Each of several answers has a seed of its own: the one that was given, and those after it."""
    return sampling if sampling.seed is None or not index else replace(sampling, seed=sampling.seed + index)


def _chat(served: Served, ask: Ask) -> Prompt:
    llama = served.llama
    if ask.tools:
        _ = served.call_syntax  # found here, in a thread, for the model's first request with tools
    return chat_prompt(
        llama.chat_template,
        llama.tokenizer,
        ask.messages or (),
        tools=shown(ask.tools),
        variables=ask.template_variables,
        room=None if ask.overflow == "error" else chat_room(llama.context, ask.max_tokens),
    )
