"""From a request to the events of its answers: the runs are set off, and their events handed on.

Between dialects, which know JSON, and the engine, which knows ids. The event loop is never held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace

from llamero.engine.request import Run
from llamero.engine.text import Stops
from llamero.interfaces.server.answer import Ask, Begun, Ended, Event, Loading
from llamero.interfaces.server.calling import marks_of, parser_of
from llamero.interfaces.server.library import Library, Served
from llamero.interfaces.server.mailbox import Mailbox
from llamero.interfaces.server.planning import Plan, plans_of
from llamero.interfaces.server.speech import Speech
from llamero.interfaces.server.tally import Tally
from llamero.interfaces.server.writing import Writer


async def answer(library: Library, *asks: Ask, patience: float | None = None) -> AsyncGenerator[list[Event]]:
    """The events of one request, as many at a time as have come together; an empty list after `patience` seconds.

    Several asks, of one model, are answered side by side, and their answers numbered on from one to the next. Closing
    the generator cancels what is unfinished before the next step. Raises what `Llama.chat` and `Llama.generate` raise,
    QueueFull, ModelNotFound; before the first event if anything is wrong with the request.
    """
    mailbox = Mailbox(patience)
    job = asyncio.create_task(_work(library, asks, mailbox))
    job.add_done_callback(lambda _: mailbox.close())
    try:
        while (events := await mailbox.take()) is not None:
            yield events
        await job
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)  # an error that nobody waits for any more is none


async def _work(library: Library, asks: Sequence[Ask], mailbox: Mailbox) -> None:
    async with library.use(asks[0].model, lambda done, total: mailbox.put(Loading(done, total))) as served:
        plans = await plans_of(served, asks)
        dropped = sum(plan.prompt.dropped for plan in plans)
        tally = Tally(sum(len(plan.prompt.ids) for plan in plans) + dropped, dropped)
        writers = [
            _writer(served, plan, plan.first + number, run, tally, mailbox)
            for plan in plans
            for number, run in enumerate(plan.runs)
        ]
        try:
            for writer in writers:
                served.worker.submit(writer.run, writer)
            mailbox.put(Begun(served.full_name, served.fingerprint, tally.usage().prompt_tokens))
            for event in _said_first(plans, tally):
                mailbox.put(event)
            await asyncio.gather(*(writer.over for writer in writers))
        finally:
            for writer in writers:
                served.worker.cancel(writer.run)


def _writer(served: Served, plan: Plan, index: int, run: Run, tally: Tally, mailbox: Mailbox) -> Writer:
    tokenizer, tools = served.llama.tokenizer, plan.ask.tools
    parser = parser_of(tools, index)
    speech = Speech(
        tokenizer.stream(start=plan.prompt.fresh and run.matcher is None),  # a form may begin with a space
        Stops(plan.ask.stop),
        parser,
        marks_of(tokenizer.special_tokens) if parser else {},
        one_call=bool(tools and not tools.parallel),
    )
    writer = Writer(index, run, speech, spell=tokenizer.piece, tally=tally, put=mailbox.put, quiet=index > 0)

    def end(over: asyncio.Future[None]) -> None:
        served.worker.cancel(run, "cancelled" if over.cancelled() else "stop")  # a run that is over does not mind

    writer.over.add_done_callback(end)
    return writer


def _said_first(plans: Sequence[Plan], tally: Tally) -> Iterator[Event]:
    """The prompts of those answers that begin with theirs, and the ends of those that are to say no more."""
    for plan in plans:
        for index in range(plan.first, plan.first + plan.ask.n):
            if plan.echo:
                yield replace(plan.echo, index=index)
            if not plan.runs:
                yield Ended(index, "length", tally.usage())
