"""The scheduler against runs that are alone: mixing, cancelling, failing, waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llamero.engine.generate import Engine
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Logits, Sampling
from llamero.engine.schedule import Limits, Scheduler
from llamero.errors import ConstraintError, QueueFull

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]
PROMPT = (1, 17, 4, 33, 60, 2, 2, 9, 41, 5)


def greedy(prompt: tuple[int, ...], max_tokens: int = 12, **rest: Any) -> Request:
    return Request(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=max_tokens, **rest)


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.over = False
        self.error: Exception | None = None

    def read(self, done: int, total: int) -> None:
        self.reads.append((done, total))

    def chose(self, choice: Choice) -> None:
        self.ids.append(choice.id)

    def ended(self, error: Exception | None) -> None:
        assert not self.over
        self.over, self.error = True, error


def submit(scheduler: Scheduler, request: Request) -> tuple[Run, Heard]:
    run, heard = scheduler.engine.plan(request), Heard()
    scheduler.submit(run, heard)
    return run, heard


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
    scheduler = Scheduler(make_engine(context=400))
    prompts = [PROMPT, (5, 6), (7, 8, 9), PROMPT[:4], tuple(range(50))]
    heard = [submit(scheduler, greedy(prompt, 9)) for prompt in prompts]
    while scheduler.step():
        pass
    for prompt, (run, one) in zip(prompts, heard, strict=True):
        assert one.ids == run.answer == slowly(prompt, 9)
        assert (one.over, one.error, run.finish_reason) == (True, None, "length")
        assert one.reads[-1] == (len(prompt), len(prompt))


def test_a_cancelled_run_ends_before_the_next_step(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine())
    run, heard = submit(scheduler, greedy(PROMPT, 50))
    _, also = submit(scheduler, greedy((5, 6), 8))
    for _ in range(3):
        scheduler.step()
    scheduler.cancel(run)
    scheduler.step()
    assert (heard.over, heard.error, run.finish_reason, len(heard.ids)) == (True, None, None, 3)
    while scheduler.step():
        pass
    assert also.ids == slowly((5, 6), 8)


def test_a_full_queue_refuses(make_engine: Make) -> None:
    scheduler = Scheduler(make_engine(), Limits(working=1, waiting=2))
    runs = [submit(scheduler, greedy(PROMPT)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait already"):
        submit(scheduler, greedy(PROMPT))
    scheduler.step()
    submit(scheduler, greedy(PROMPT))
    while scheduler.step():
        pass
    assert all(heard.over for _, heard in runs)


def test_a_constraint_holds_and_fails_closed_alone(make_engine: Make, slowly: Slowly) -> None:
    scheduler = Scheduler(make_engine())
    _, heard = submit(scheduler, greedy(PROMPT, 20, constraint=Never(4)))
    _, other = submit(scheduler, greedy((5, 6), 8))
    while scheduler.step():
        pass
    assert len(heard.ids) == 4
    assert max(heard.ids) < 7
    assert isinstance(heard.error, ConstraintError)
    assert "allows no token" in str(heard.error)
    assert other.ids == slowly((5, 6), 8)
