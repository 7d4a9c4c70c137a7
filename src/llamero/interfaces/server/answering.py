"""From a request to the events of its answers: the prompt is made, the runs are set off, and their events handed on.

Between dialects, which know JSON, and the engine, which knows ids. What takes long (templates, tokenizing, grammars)
happens in threads; the event loop is never held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from llamero.engine.constraint import Constraint
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Sampling
from llamero.engine.text import Stops
from llamero.errors import SettingError
from llamero.interfaces.prompts import Prompt, chat_prompt, chat_room, text_prompt
from llamero.interfaces.server.answer import Ask, Begun, Event, Form, Loading, Text
from llamero.interfaces.server.calling import shown
from llamero.interfaces.server.library import Library, Served
from llamero.interfaces.server.mailbox import Mailbox
from llamero.interfaces.server.tally import Tally
from llamero.interfaces.server.writing import Writer

_SHORT = 1000  # characters or ids: less work than handing it to a thread


async def answer(library: Library, *asks: Ask, patience: float | None = None) -> AsyncGenerator[list[Event]]:
    """The events of one request, as many at a time as have come together; an empty list after `patience` seconds.

    Several asks, of one model, are answered side by side, and their answers numbered on from one to the next. Closing
    the generator cancels what is unfinished before the next step. Raises what `Llama.chat` and `Llama.generate` raise,
    QueueFull, ModelNotFound; before the first event if anything is wrong with the request.
    """
    mailbox = Mailbox()
    job = asyncio.create_task(_work(library, asks, mailbox))
    job.add_done_callback(lambda _: mailbox.close())
    try:
        while (events := await mailbox.take(patience)) is not None:
            yield events
        await job
    finally:
        job.cancel()
        await asyncio.wait([job])


@dataclass(frozen=True)
class _Planned:
    """An ask with its prompt, and a run for each of its answers."""

    ask: Ask
    prompt: Prompt
    runs: list[Run]


async def _work(library: Library, asks: Sequence[Ask], mailbox: Mailbox) -> None:
    async with library.use(asks[0].model, lambda done, total: mailbox.put(Loading(done, total))) as served:
        plans = await _plans(served, asks)
        tally = Tally(
            sum(len(plan.prompt.ids) + plan.prompt.dropped for plan in plans),
            sum(plan.prompt.dropped for plan in plans),
        )
        endings: list[asyncio.Future[None]] = []
        writers: list[Writer] = []
        for plan in plans:
            for run in plan.runs:
                endings.append(asyncio.get_running_loop().create_future())
                writers.append(_writer(served, plan, run, len(writers), tally, mailbox, endings[-1]))
        await _write(served, plans, writers, endings, mailbox, tally)


async def _write(
    served: Served,
    plans: Sequence[_Planned],
    writers: Sequence[Writer],
    endings: Sequence[asyncio.Future[None]],
    mailbox: Mailbox,
    tally: Tally,
) -> None:
    try:
        for writer in writers:
            served.worker.submit(writer.run, writer)
        mailbox.put(Begun(served.name, served.fingerprint, tally.usage().prompt_tokens))
        _echo(served, plans, mailbox)
        await asyncio.gather(*endings)
    finally:
        for writer in writers:
            served.worker.cancel(writer.run)


def _writer(
    served: Served,
    plan: _Planned,
    run: Run,
    index: int,
    tally: Tally,
    mailbox: Mailbox,
    ending: asyncio.Future[None],
) -> Writer:
    def over(error: Exception | None) -> None:
        if not ending.done():
            if error:
                ending.set_exception(error)
            else:
                ending.set_result(None)
        served.worker.cancel(run, "stop")  # by a stop string; a run that is over does not mind

    tokenizer = served.llama.tokenizer
    return Writer(
        index,
        run,
        decoder=tokenizer.stream(start=plan.prompt.fresh),
        stops=Stops(plan.ask.stop),
        spell=tokenizer.piece,
        tally=tally,
        put=mailbox.put,
        over=over,
        quiet=index > 0,
    )


async def _plans(served: Served, asks: Sequence[Ask]) -> list[_Planned]:
    """The asks as runs, checked. Raises before any work. Asks of one form share its constraint."""
    plans: list[_Planned] = []
    form: Form | None = None
    constraint: Constraint | None = None
    for ask in asks:
        if ask.form != form:
            form = ask.form
            constraint = await asyncio.to_thread(served.llama.make_constraint, form) if form else None
        plans.append(_plan(served, ask, await prompt_of(served, ask), constraint))
    return plans


def _plan(served: Served, ask: Ask, prompt: Prompt, constraint: Constraint | None) -> _Planned:
    request, engine = request_of(served, ask, prompt, constraint), served.llama.engine
    return _Planned(
        ask, prompt, [engine.plan(replace(request, sampling=_seeded(ask.sampling, i))) for i in range(ask.n)]
    )


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


def _seeded(sampling: Sampling, index: int) -> Sampling:
    """Each of several answers has a seed of its own: the one that was given, and those after it."""
    return sampling if sampling.seed is None or not index else replace(sampling, seed=sampling.seed + index)


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


def _chat(served: Served, ask: Ask) -> Prompt:
    llama = served.llama
    return chat_prompt(
        llama.chat_template,
        llama.tokenizer,
        ask.messages or (),
        tools=shown(ask.tools),
        variables=ask.template_variables,
        room=None if ask.overflow == "error" else chat_room(llama.context, ask.max_tokens),
    )


def _echo(served: Served, plans: Sequence[_Planned], mailbox: Mailbox) -> None:
    """The prompts of those answers that are to begin with theirs."""
    index = 0
    for plan in plans:
        if plan.ask.echo:
            given = plan.ask.prompt
            text = given if isinstance(given, str) else served.llama.detokenize(plan.prompt.ids)
            for offset in range(plan.ask.n):
                mailbox.put(Text(index + offset, text))
        index += plan.ask.n
