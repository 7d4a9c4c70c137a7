"""The scheduler against runs that are alone: mixing, sharing, fairness, cancelling, failing, and too little room."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from llamero.engine.generate import Engine
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Logits, Sampling
from llamero.engine.schedule import Limits, Scheduler
from llamero.errors import ConstraintError, QueueFull, SettingError, WeightsError
from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.weights import Layer
from llamero.ops.native_ops import NativeOps

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]
PROMPT = (1, 17, 4, 33, 60, 2, 2, 9, 41, 5)
LONG = tuple(i * 7 % 61 for i in range(150))


def greedy(prompt: tuple[int, ...], max_tokens: int | None = 12, **rest: Any) -> Request:
    return Request(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=max_tokens, **rest)


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.choices: list[Choice] = []
        self.reads: list[tuple[int, int]] = []
        self.over = False
        self.error: Exception | None = None

    def read(self, done: int, total: int) -> None:
        assert not self.over
        self.reads.append((done, total))

    def chose(self, choice: Choice) -> None:
        assert not self.over
        self.ids.append(choice.id)
        self.choices.append(choice)

    def ended(self, error: Exception | None) -> None:
        assert not self.over
        self.over, self.error = True, error


def submit(scheduler: Scheduler, request: Request) -> tuple[Run, Heard]:
    run, heard = scheduler.engine.plan(request), Heard()
    scheduler.submit(run, heard)
    return run, heard


def finish(scheduler: Scheduler, most: int = 5000) -> int:
    """Step until nothing is left -> steps. Nobody holds a page then."""
    steps = 0
    while scheduler.step():
        steps += 1
        assert steps < most, "no end"
    cache = scheduler.engine.pool.cache
    assert cache.free + cache.idle == cache.pages
    assert not scheduler.busy
    return steps


class Never:
    """A constraint that allows nothing after so many tokens, and its own matcher."""

    def __init__(self, after: int) -> None:
        self.left = after

    hurried = False

    def begin(self, room: int | None = None) -> Never:  # noqa: ARG002 (as any constraint)
        return Never(self.left)

    copy = begin

    def mask(self, logits: Logits) -> None:
        logits[7:] = float("-inf")
        if not self.left:
            logits[:] = float("-inf")

    def accept(self, token: int) -> None:
        assert token < 7
        self.left -= 1


def test_many_get_what_each_would_get_alone(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine(room=400))
    prompts = [PROMPT, (5, 6), (7,), PROMPT[:4], LONG[:50]]
    heard = [submit(scheduler, greedy(prompt, 9)) for prompt in prompts]
    finish(scheduler)
    for prompt, (run, one) in zip(prompts, heard, strict=True):
        assert one.ids == run.answer == slowly(prompt, 9)
        assert (one.over, one.error, run.finish_reason) == (True, None, "length")
        assert one.reads[-1] == (len(prompt), len(prompt))
        assert run.cached_tokens + run.read_tokens == len(prompt)


def test_with_deterministic_operations_company_changes_no_bit(make_engine: Make) -> None:
    """Logarithms to the last bit, alone, and among others with chunks, shared pages and copied ones."""
    prompts = [LONG, (*LONG[:100], 3, 4), PROMPT, (*LONG[:30], 9), LONG]
    requests = [
        Request(prompt=prompt, sampling=Sampling(seed=7), max_tokens=12, logprobs=3, owner=owner)
        for prompt, owner in zip(prompts, "aabab", strict=True)
    ]

    def engine() -> Engine[Any, Any]:
        like = make_engine()
        ops = NativeOps(1, deterministic=True)
        names = [field.name for field in fields(Layer)]
        layers = [Layer(**{name: _native(ops, getattr(one, name)) for name in names}) for one in like.weights.layers]
        whole = {name: _native(ops, getattr(like.weights, name)) for name in ("embedding", "norm", "output")}
        weights = replace(like.weights, layers=tuple(layers), **whole)
        return Engine(ops, weights, context=200, room=1000, chunk=70)

    together = Scheduler(engine())
    heard = [submit(together, request)[1] for request in requests]
    finish(together)
    for request, one in zip(requests, heard, strict=True):
        alone = engine()
        assert one.choices == list(alone.generate(alone.plan(request)))
    assert together.standing().found_tokens > 100


def _native(ops: NativeOps, array: Any) -> Any:
    return ops.weight(Tensor(TensorInfo("w", F32, array.shape), F32.encode(array)))


def test_who_reads_the_same_waits_for_the_page(make_engine: Make, slowly: Slowly) -> None:
    """Of five prompts with the same beginning, three of them equal, that come together, it is read once."""
    engine = make_engine(context=200, room=800)
    scheduler = Scheduler(engine)
    prompts = [(*LONG[:140], 5, 6, 7), *[LONG] * 3, (*LONG[:100], 1, 2)]
    heard = [submit(scheduler, greedy(prompt, 4)) for prompt in prompts]
    finish(scheduler)
    assert [one.ids for _, one in heard] == [slowly(prompt, 4) for prompt in prompts]
    assert [run.cached_tokens for run, _ in heard] == [0, 140, 149, 149, 100]
    assert engine.ops.read == 143 + 10 + 1 + 1 + 2 + 5 * 3


def test_a_prompt_that_another_has_half_read_is_not_read_again(make_engine: Make) -> None:
    engine = make_engine(chunk=40, room=800)
    scheduler = Scheduler(engine)
    submit(scheduler, greedy(LONG, 3))
    scheduler.step()
    scheduler.step()
    late, _ = submit(scheduler, greedy((*LONG[:130], 9), 3))
    finish(scheduler)
    assert late.cached_tokens == 130


def test_owners_and_adapters_do_not_share(make_engine: Make) -> None:
    def cached(limits: Limits) -> list[int]:
        scheduler, runs = Scheduler(make_engine(room=1000), limits), list[Run]()
        for owner in ("", "a", "b", "b", "a"):
            runs.append(submit(scheduler, greedy(LONG, 2, owner=owner))[0])
            finish(scheduler)
        return [run.cached_tokens for run in runs]

    assert cached(Limits()) == [0, 0, 0, 149, 149]
    assert cached(Limits(shared=True)) == [0, 149, 149, 149, 149]


def test_nobody_stalls_while_a_long_prompt_is_read(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine(chunk=16, room=800)
    scheduler = Scheduler(engine)
    writers = [submit(scheduler, greedy(prompt, 30))[1] for prompt in (PROMPT, (5, 6))]
    scheduler.step()
    _, reader = submit(scheduler, greedy(LONG, 3))
    while not reader.ids:
        before = [len(one.ids) for one in writers]
        scheduler.step()
        assert [len(one.ids) for one in writers] == [count + 1 for count in before]
    assert len(reader.reads) >= 150 / 16
    assert max(max(step) for step in engine.ops.steps) <= 16
    finish(scheduler)
    assert [one.ids for one in writers] == [slowly(prompt, 30) for prompt in (PROMPT, (5, 6))]


def test_prompts_share_a_step(make_engine: Make) -> None:
    engine = make_engine(chunk=64, room=800)
    scheduler = Scheduler(engine)
    for start in range(4):
        submit(scheduler, greedy((start, 9, 8, start), 2))
    scheduler.step()
    assert engine.ops.steps == [[4, 4, 4, 4]]


def test_turns_are_fair_between_owners_and_in_order_within(make_engine: Make) -> None:
    scheduler, order = Scheduler(make_engine(), Limits(working=1)), list[str]()

    class Note(Heard):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def ended(self, error: Exception | None) -> None:
            super().ended(error)
            order.append(self.name)

    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        scheduler.submit(scheduler.engine.plan(greedy((int(name[1]), 5), 2, owner=name[0])), Note(name))
    finish(scheduler)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_an_owner_with_many_at_work_lets_others_in_first(make_engine: Make) -> None:
    scheduler = Scheduler(make_engine(room=800), Limits(working=3))
    for start in range(5):
        submit(scheduler, greedy((start, 5), 10 + start, owner="a"))
    scheduler.step()
    run, heard = submit(scheduler, greedy((9, 9), 3, owner="b"))
    for _ in range(12):
        scheduler.step()
    assert (heard.over, run.finish_reason) == (True, "length")


def test_a_cancelled_run_ends_before_the_next_step(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine(), Limits(working=2))
    run, heard = submit(scheduler, greedy(PROMPT, 50))
    _, also = submit(scheduler, greedy((5, 6), 8))
    waiting, unheard = submit(scheduler, greedy((1, 2)))
    for _ in range(3):
        scheduler.step()
    for one in (run, waiting):
        threading.Thread(target=scheduler.cancel, args=(one,)).start()
    while scheduler.standing().writing == 2:
        scheduler.step()
    assert (heard.over, heard.error, run.finish_reason, heard.ids) == (True, None, None, slowly(PROMPT, 50)[:3])
    finish(scheduler)
    assert (unheard.over, unheard.ids, unheard.error) == (True, [], None)
    assert also.ids == slowly((5, 6), 8)


def test_whoever_comes_and_leaves_between_two_looks_is_not_served(make_engine: Make) -> None:
    """A run that is submitted and cancelled by another thread after arrivals were looked at, and before departures."""
    scheduler, told = Scheduler(make_engine()), list[Heard]()

    class Gap(deque[Any]):
        def __bool__(self) -> bool:
            if not len(self) and not told:
                run, heard = scheduler.engine.plan(greedy(PROMPT)), Heard()
                told.append(heard)
                scheduler.submit(run, heard)
                scheduler.cancel(run)
                return False
            return len(self) > 0

    scheduler._arrived = Gap()
    scheduler.step()
    finish(scheduler)
    assert (told[0].over, told[0].ids) == (True, [])


def test_an_interruption_among_choices_loses_no_token_unsaid(make_engine: Make, slowly: Slowly) -> None:
    class Interrupting(Never):
        def begin(self, room: int | None = None) -> Interrupting:  # noqa: ARG002
            return Interrupting(self.left)

        def mask(self, logits: Logits) -> None:
            super().mask(logits)
            if not self.left:
                raise KeyboardInterrupt

    scheduler = Scheduler(make_engine())
    _, first = submit(scheduler, greedy((5, 6), 8))
    submit(scheduler, greedy(PROMPT, 20, constraint=Interrupting(2)))
    with pytest.raises(KeyboardInterrupt):
        finish(scheduler)
    finish(scheduler)
    assert first.ids == slowly((5, 6), 2)
    assert "ask again" in str(first.error)


def test_a_cancelled_reader_leaves_those_who_waited_for_it_to_read(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine(chunk=40, room=800))
    first, _ = submit(scheduler, greedy(LONG, 3))
    _, second = submit(scheduler, greedy(LONG, 3))
    scheduler.step()
    assert second.reads == []
    scheduler.cancel(first)
    finish(scheduler)
    assert second.ids == slowly(LONG, 3)


def test_a_full_queue_refuses(make_engine: Make) -> None:
    scheduler = Scheduler(make_engine(), Limits(working=1, waiting=2))
    runs = [submit(scheduler, greedy(PROMPT)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait already"):
        submit(scheduler, greedy(PROMPT))
    scheduler.step()
    runs.append(submit(scheduler, greedy(PROMPT)))
    finish(scheduler)
    assert all(heard.over for _, heard in runs)


def test_a_constraint_holds_and_fails_closed_alone(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine())
    _, heard = submit(scheduler, greedy(PROMPT, 20, constraint=Never(4)))
    _, other = submit(scheduler, greedy((5, 6), 8))
    finish(scheduler)
    assert len(heard.ids) == 4
    assert max(heard.ids) < 7
    assert isinstance(heard.error, ConstraintError)
    assert "allows no token" in str(heard.error)
    assert other.ids == slowly((5, 6), 8)


def test_logits_that_are_not_finite_end_their_run_alone(make_engine: Make) -> None:
    weights = make_engine().weights
    embedding = weights.embedding.copy()
    embedding[60] = np.nan
    scheduler = Scheduler(make_engine(weights=replace(weights, embedding=embedding, output=weights.output)))
    _, bad = submit(scheduler, greedy(PROMPT))
    _, good = submit(scheduler, greedy((5, 6), 5, constraint=Never(9)))
    finish(scheduler)
    assert isinstance(bad.error, WeightsError)
    assert bad.ids == []
    assert len(good.ids) == 5


def test_a_pass_that_fails_ends_those_in_it_and_no_others(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    scheduler = Scheduler(engine, Limits(working=1))
    _, first = submit(scheduler, greedy(PROMPT))
    _, second = submit(scheduler, greedy((5, 6), 5))
    scheduler.step()
    swiglu = engine.ops.swiglu

    def broken(*_: Any) -> Any:
        raise MemoryError

    engine.ops.swiglu = broken
    assert scheduler.step()
    engine.ops.swiglu = swiglu
    finish(scheduler)
    assert isinstance(first.error, MemoryError)
    assert second.ids == slowly((5, 6), 5)


def test_the_youngest_give_way_and_say_the_same(make_engine: Make, slowly: Slowly) -> None:
    """Three pages for three runs of three: they are let in, put off and let in again, and nobody notices."""
    engine = make_engine(context=192)
    scheduler = Scheduler(engine)
    prompts = [(start, *LONG[:40]) for start in range(3)]
    heard = [submit(scheduler, greedy(prompt, 100))[1] for prompt in prompts]
    finish(scheduler)
    assert [one.ids for one in heard] == [slowly(prompt, 100) for prompt in prompts]
    assert all(one.reads[-1] == (41, 41) for one in heard)
    assert engine.ops.read > 3 * (41 + 99)  # something was read twice


def test_shifting_runs_beside_others(make_engine: Make, slowly: Slowly) -> None:
    alone = make_engine(context=64)
    request = greedy(PROMPT, 120, overflow="shift", keep=3)
    wanted = [choice.id for choice in alone.generate(alone.plan(request))]
    scheduler = Scheduler(make_engine(context=64, room=192))
    run, heard = submit(scheduler, request)
    others = [submit(scheduler, greedy((start, 7), 60))[1] for start in range(3)]
    finish(scheduler)
    assert heard.ids == wanted
    assert run.dropped_tokens > 60
    assert [one.ids for one in others] == [slowly((start, 7), 60) for start in range(3)]


@pytest.mark.parametrize("seed", range(4))
def test_anything_goes(make_engine: Make, slowly: Slowly, seed: int) -> None:
    """Random comings, goings and pauses in a cache that is too small: all that is said is right, and nothing leaks."""
    chance = random.Random(seed)
    scheduler = Scheduler(make_engine(context=150, room=320, chunk=50), Limits(working=5))
    everybody: list[tuple[Run, Heard]] = []
    for _ in range(60):
        if len(everybody) < 25 and chance.random() < 0.6:
            cut = chance.choice((3, 50, 64, 65, 100))
            prompt = (*LONG[:cut], *chance.choices(range(61), k=chance.randrange(1, 30)))
            request = greedy(prompt, chance.randrange(1, 20), owner=chance.choice("ab"))
            everybody.append(submit(scheduler, request))
        if everybody and chance.random() < 0.1:
            scheduler.cancel(chance.choice(everybody)[0])
        if everybody:
            chance.choice(everybody)[0].paused = chance.random() < 0.5
        scheduler.step()
    for run, _ in everybody:
        run.paused = False
    finish(scheduler)
    for run, heard in everybody:
        assert heard.over
        assert heard.error is None
        assert heard.ids == slowly(run.request.prompt, len(heard.ids))
        assert run.finish_reason == "length" or len(heard.ids) < run.request.max_tokens  # type: ignore[operator]


def test_threads_may_come_and_go(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine(room=800))
    stop, found = threading.Event(), list[tuple[Run, Heard]]()

    def work() -> None:
        while not stop.is_set() or scheduler.busy:
            scheduler.step()

    def client(start: int) -> None:
        for i in range(5):
            found.append(submit(scheduler, greedy((start, i, 9), 5)))
            scheduler.standing()
            scheduler.cancel(submit(scheduler, greedy((start, i), 100))[0])

    worker, clients = (
        threading.Thread(target=work),
        [threading.Thread(target=client, args=(start,)) for start in range(4)],
    )
    for thread in (worker, *clients):
        thread.start()
    for thread in clients:
        thread.join(60)
    stop.set()
    worker.join(60)
    assert not worker.is_alive()
    assert len(found) == 20
    assert all(heard.ids == slowly(run.request.prompt, 5) for run, heard in found)
    assert finish(scheduler) == 0


def test_texts_are_read_for_their_own_sake_meanwhile(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine(context=128, room=128, chunk=30)
    wanted = make_engine(context=128).embedding(LONG[:120])
    _, heard = submit(engine.scheduler, greedy(PROMPT, 20))
    engine.scheduler.step()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(engine.embedding(LONG[:120])))
    thread.start()
    while engine.scheduler.step():
        pass
    thread.join(60)
    finish(engine.scheduler)
    np.testing.assert_allclose(got[0], wanted, atol=1e-5)
    assert heard.ids == slowly(PROMPT, 20)


def test_standing(make_engine: Make) -> None:
    scheduler = Scheduler(make_engine(room=640, chunk=100), Limits(working=2))
    for prompt in (PROMPT, LONG, LONG):
        submit(scheduler, greedy(prompt, 5))
    scheduler.step()
    now = scheduler.standing()
    assert (now.writing, now.reading, now.waiting) == (1, 1, 1)
    assert now.pages_used + now.pages_kept + now.pages_free == 10
    assert now.pages_used >= 2
    finish(scheduler)
    now = scheduler.standing()
    assert (now.writing, now.reading, now.waiting, now.pages_used) == (0, 0, 0, 0)
    assert (now.found_tokens, now.read_tokens) == (149, 10 + 150 + 1)


def test_a_busy_scheduler_is_not_replaced(make_engine: Make) -> None:
    engine = make_engine()
    submit(engine.scheduler, greedy(PROMPT, 3))
    with pytest.raises(SettingError, match="at work"):
        Scheduler(engine)
    finish(engine.scheduler)
    assert Scheduler(engine) is engine.scheduler
