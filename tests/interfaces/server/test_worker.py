"""The thread that steps a scheduler: what it tells comes to the event loop, in order, and ends when it should."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest

from llamero import Llama
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Sampling
from llamero.engine.schedule import Limits, Scheduler
from llamero.errors import DeviceError, QueueFull
from llamero.interfaces.server.worker import Worker


class Ear:
    """Hears everything, and where."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.times: list[float] = []
        self.threads: set[int] = set()
        self.over = asyncio.Event()

    def read(self, done: int, total: int) -> None:
        self._note((done, total))

    def chose(self, choice: Choice, at: float) -> None:
        self.times.append(at)
        self._note(choice.id)

    def ended(self, error: Exception | None) -> None:
        self._note(error)
        self.over.set()

    def _note(self, word: Any) -> None:
        self.heard.append(word)
        self.threads.add(threading.get_ident())

    @property
    def tokens(self) -> list[int]:
        return [word for word in self.heard if isinstance(word, int)]


@pytest.fixture(scope="module")
def llama(models: Path) -> Iterator[Llama]:
    with Llama(models / "circle.gguf", threads=1) as llama:
        yield llama


def run_of(llama: Llama, tokens: int) -> Run:
    request = Request(prompt=(1, 3), sampling=Sampling(temperature=0), max_tokens=tokens, overflow="shift")
    return llama.engine.plan(request)


def test_all_is_told_in_order_on_the_loop(llama: Llama) -> None:
    async def work() -> Ear:
        worker = Worker(Scheduler(llama.engine))
        ears = [Ear() for _ in range(3)]
        for ear in ears:
            worker.submit(run_of(llama, 20), ear)
        for ear in ears:
            await asyncio.wait_for(ear.over.wait(), 30)
            assert ear.threads == {threading.get_ident()}
            assert ear.heard[-1] is None
            assert ear.tokens == ears[0].tokens
        await worker.close()
        return ears[0]

    assert asyncio.run(work()).tokens == list(llama.generate([1, 3], temperature=0, max_tokens=20).ids)


def test_tokens_that_come_together_were_chosen_one_after_the_other(llama: Llama) -> None:
    async def work() -> tuple[list[float], float]:
        worker, ear = Worker(Scheduler(llama.engine)), Ear()
        worker.submit(run_of(llama, 50), ear)
        sleep(0.3)  # the loop hears nothing meanwhile
        woke = perf_counter()
        await asyncio.wait_for(ear.over.wait(), 30)
        await worker.close()
        return ear.times, woke

    times, woke = asyncio.run(work())
    assert times == sorted(set(times))
    assert times[1] < woke


def test_a_cancelled_run_is_told_nothing_more(llama: Llama) -> None:
    async def work() -> None:
        worker = Worker(Scheduler(llama.engine))
        first, second = Ear(), Ear()
        run = run_of(llama, 10**6)
        worker.submit(run, first)
        while not first.tokens:
            await asyncio.sleep(0.001)
        worker.cancel(run)
        count = len(first.heard)
        worker.submit(run_of(llama, 5), second)
        await asyncio.wait_for(second.over.wait(), 30)
        assert len(first.heard) == count
        assert worker.scheduler.standing().writing == 0
        worker.cancel(run)  # once more does not matter
        await worker.close()

    asyncio.run(work())


def test_closing_ends_what_is_at_work(llama: Llama) -> None:
    async def work() -> None:
        worker = Worker(Scheduler(llama.engine, Limits(working=1)), "circle")
        writing, waiting = Ear(), Ear()
        worker.submit(run_of(llama, 10**6), writing)
        worker.submit(run_of(llama, 10**6), waiting)
        while not writing.tokens:
            await asyncio.sleep(0.001)
        await worker.close()
        for ear in (writing, waiting):
            assert isinstance(ear.heard[-1], DeviceError)
        with pytest.raises(DeviceError, match="'circle' is being closed"):
            worker.submit(run_of(llama, 1), Ear())
        with pytest.raises(DeviceError):
            await worker.aside(lambda: None)
        assert not [thread for thread in threading.enumerate() if thread.name == "llamero circle"]

    asyncio.run(work())


def test_a_full_queue_leaves_nothing_behind(llama: Llama) -> None:
    async def work() -> None:
        worker = Worker(Scheduler(llama.engine, Limits(working=1, waiting=1)))
        ears = [Ear(), Ear()]
        worker.submit(run_of(llama, 10**6), ears[0])
        while not ears[0].tokens:
            await asyncio.sleep(0.001)
        worker.submit(run_of(llama, 3), ears[1])
        refused = Ear()
        with pytest.raises(QueueFull):
            worker.submit(run_of(llama, 3), refused)
        await worker.close()
        assert refused.heard == []

    asyncio.run(work())


def test_work_aside(llama: Llama) -> None:
    async def work() -> None:
        worker = Worker(Scheduler(llama.engine))
        names = await asyncio.gather(*(worker.aside(lambda: threading.current_thread().name) for _ in range(5)))
        assert len(set(names)) == 1
        with pytest.raises(ZeroDivisionError):
            await worker.aside(lambda: 1 // 0)
        await worker.close()

    asyncio.run(work())
