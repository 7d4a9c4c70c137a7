"""Answers drawn token by token, without a worker: many at once, from several threads, left and interrupted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from llamero.engine import pull
from llamero.engine.generate import Engine
from llamero.engine.pull import _Heard
from llamero.engine.request import Request
from llamero.engine.sampling import Choice, Sampling

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]
LONG = tuple(i * 7 % 61 for i in range(150))


def greedy(*prompt: int, count: int = 20) -> Request:
    return Request(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=count)


@pytest.fixture
def in_threads() -> Callable[..., None]:
    def run(work: Callable[[int], Any], count: int) -> None:
        begin = threading.Barrier(count)

        def together(number: int) -> None:
            begin.wait()
            work(number)

        threads = [threading.Thread(target=together, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    return run


def test_more_streams_may_be_open_than_are_served_at_once(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine(room=800)
    limit = engine.scheduler.limits.working
    streams = [engine.generate(engine.plan(greedy(start % 61, start // 61, count=3))) for start in range(limit + 6)]
    told = [[next(stream).id] for stream in streams]
    for ids, stream in zip(told, streams, strict=True):
        ids += [choice.id for choice in stream]
    assert told == [slowly((start % 61, start // 61), 3) for start in range(limit + 6)]


def test_whole_answers_of_several_threads_share_steps(
    make_engine: Make, slowly: Slowly, in_threads: Callable[..., None]
) -> None:
    engine, told = make_engine(room=800), dict[int, list[int]]()

    def work(number: int) -> None:
        run = engine.plan(greedy(number, 9))
        told[number] = [choice.id for choice in engine.generate(run, whole=True)]

    in_threads(work, 6)
    assert told == {number: slowly((number, 9), 20) for number in range(6)}
    assert len(engine.ops.steps) < 60  # alone they take 20 each
    assert max(map(len, engine.ops.steps)) >= 4
    assert not engine.scheduler.busy


def test_many_threads_wait_and_none_is_turned_away(
    make_engine: Make, slowly: Slowly, in_threads: Callable[..., None]
) -> None:
    engine, told = make_engine(room=800), dict[int, list[int]]()
    count = engine.scheduler.limits.working + engine.scheduler.limits.waiting + 10

    def work(number: int) -> None:
        run = engine.plan(greedy(number % 61, number // 61, count=2))
        told[number] = [choice.id for choice in engine.generate(run, whole=True)]

    in_threads(work, count)
    assert len(told) == count
    assert told[300] == slowly((300 % 61, 300 // 61), 2)


def test_the_last_token_may_come_while_others_are_looked_for(make_engine: Make) -> None:
    """It and the end are told by another thread between two looks."""
    engine = make_engine()
    heard = _Heard(engine.plan(greedy(5, 6)), whole=True)

    class Late(deque[Any]):
        def __bool__(self) -> bool:
            if not heard.over:
                heard.chose(Choice(7))
                heard.ended(None)
                return False
            return len(self) > 0

    heard.choices = Late()
    assert engine._puller._next(heard, None) == Choice(7)
    assert engine._puller._next(heard, None) is None


def test_an_answer_wanted_whole_is_left_early(make_engine: Make) -> None:
    engine = make_engine()
    stream = engine.generate(engine.plan(greedy(5, 6)), whole=True)
    next(stream)
    stream.close()
    assert not engine.scheduler.busy
    assert not engine.pool.working


def test_whoever_steps_is_interrupted_and_the_others_go_on(make_engine: Make, slowly: Slowly) -> None:
    engine, told = make_engine(), list[int]()
    mine = engine.generate(engine.plan(greedy(5, 6)))
    next(mine)
    begun, swiglu = threading.Event(), engine.ops.swiglu

    def other() -> None:
        begun.wait()
        told.extend(choice.id for choice in engine.generate(engine.plan(greedy(7, 8)), whole=True))

    def interrupted(*_: Any) -> Any:
        engine.ops.swiglu = swiglu
        begun.set()
        raise KeyboardInterrupt

    thread = threading.Thread(target=other)
    thread.start()
    engine.ops.swiglu = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(mine)
    thread.join(60)
    assert told == slowly((7, 8), 20)
    assert not engine.scheduler.busy


def test_nobody_waits_for_ever_for_one_who_was_interrupted_at_the_wrong_moment(
    make_engine: Make, slowly: Slowly, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    monkeypatch.setattr(pull, "_PATIENCE", 0.05)
    monkeypatch.setattr(engine._puller, "_stepping", True)
    run = engine.plan(greedy(5, 6, count=3))
    assert [choice.id for choice in engine.generate(run)] == slowly((5, 6), 3)


def test_progress_is_told_by_whoever_asked(make_engine: Make) -> None:
    """And may ask for something itself, or fail, without harm to anybody else."""
    engine, seen = make_engine(chunk=40, room=800), list[tuple[str, int, int]]()

    def told(done: int, total: int) -> None:
        seen.append((threading.current_thread().name, done, total))
        assert len(list(engine.generate(engine.plan(greedy(3, count=2))))) == 2

    list(engine.generate(engine.plan(greedy(*LONG, count=2)), told))
    assert seen == [("MainThread", done, 150) for done in (40, 80, 120, 150)]

    def broken(*_: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(engine.generate(engine.plan(greedy(9, *LONG, count=2)), broken))
    assert not engine.scheduler.busy
