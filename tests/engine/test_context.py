"""The three context policies: what is read is exactly what they promise, and what was dropped is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.engine.context import Overflow, fit, shift
from llamero.engine.generate import Engine
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.errors import ContextOverflow

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]
GREEDY = Sampling(temperature=0)
LONG = tuple(i * 7 % 61 for i in range(100))


@pytest.mark.parametrize("length", [32, 33, 100])
def test_a_prompt_too_long_is_an_error_with_both_counts_before_any_work(make_engine: Make, length: int) -> None:
    engine = make_engine(context=32)
    with pytest.raises(ContextOverflow, match=f"{length} tokens.*context of 32") as caught:
        engine.plan(Request(prompt=LONG[:length]))
    assert (caught.value.tokens, caught.value.context) == (length, 32)
    assert engine.ops.steps == []


@pytest.mark.parametrize("policy", ["error", "truncate"])
def test_an_answer_ends_where_the_context_does(make_engine: Make, slowly: Slowly, policy: Overflow) -> None:
    engine = make_engine(context=32)
    run = engine.plan(Request(prompt=LONG[:25], sampling=GREEDY, overflow=policy))
    assert [choice.id for choice in engine.generate(run)] == slowly(LONG[:25], 7)
    assert (run.finish_reason, run.dropped_tokens) == ("length", 0)


@pytest.mark.parametrize(
    ("keep", "max_tokens", "head", "dropped"), [(0, 6, (), 74), (1, 6, LONG[:1], 74), (4, None, LONG[:4], 75)]
)
def test_truncate_drops_the_oldest_after_the_head(
    make_engine: Make, slowly: Slowly, keep: int, max_tokens: int | None, head: tuple[int, ...], dropped: int
) -> None:
    engine = make_engine(context=32)
    request = Request(prompt=LONG, sampling=GREEDY, overflow="truncate", keep=keep, max_tokens=max_tokens)
    run = engine.plan(request)
    read = [*head, *LONG[keep + dropped :]]
    assert run.sequence.ids == read
    assert [choice.id for choice in engine.generate(run)] == slowly(read, 32 - len(read))
    assert (run.prompt_tokens, run.dropped_tokens, run.finish_reason) == (100, dropped, "length")


@pytest.mark.parametrize("keep", [0, 3])
def test_shift_goes_on_exactly_as_a_fresh_prompt_would(make_engine: Make, slowly: Slowly, keep: int) -> None:
    engine = make_engine(context=24)
    run = engine.plan(Request(prompt=LONG[:10], sampling=GREEDY, overflow="shift", keep=keep, max_tokens=60))
    told = [choice.id for choice in engine.generate(run)]
    ids, wanted, dropped = list(LONG[:10]), list[int](), 0
    while len(wanted) < 60:  # the policy in four plain lines
        ids.append(slowly(ids, 1)[0])
        wanted.append(ids[-1])
        if len(ids) == 24 and len(wanted) < 60:
            half = (24 - keep) // 2
            ids, dropped = ids[:keep] + ids[keep + half :], dropped + half
    assert told == wanted
    assert (run.dropped_tokens, run.finish_reason) == (dropped, "length")
    assert dropped > 24


def test_shift_of_a_long_prompt_and_its_default_length(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine(context=24)
    run = engine.plan(Request(prompt=LONG, sampling=GREEDY, overflow="shift", keep=2))
    read = [*LONG[:2], *LONG[89:]]
    assert run.sequence.ids == read
    told = [choice.id for choice in engine.generate(run)]
    assert len(told) == 24
    assert told[:11] == slowly(read, 11)


def test_a_head_that_fills_the_context_is_an_error(make_engine: Make) -> None:
    engine = make_engine(context=24)
    for policy in ("truncate", "shift"):
        with pytest.raises(ContextOverflow, match="keep fewer"):
            engine.plan(Request(prompt=LONG, overflow=policy, keep=23))  # type: ignore[arg-type]


policies = st.sampled_from(["truncate", "shift"])


@given(st.integers(1, 60), st.integers(2, 40), policies, st.integers(0, 50), st.none() | st.integers(1, 50))
def test_what_is_kept_always_fits(length: int, context: int, policy: Overflow, keep: int, most: int | None) -> None:
    prompt = list(range(length))
    try:
        read = fit(prompt, context, policy, keep, most)
    except ContextOverflow:
        assert min(keep, length) > context - 2
        return
    head = min(keep, length)
    assert 0 < len(read) < context
    assert read[:head] == prompt[:head]
    assert read[head:] == prompt[length - (len(read) - head) :]
    if policy == "truncate" and most is not None and len(read) < length:
        assert context - len(read) == min(most, max(1, (context - head) // 2))
    if policy == "shift":
        full = [*read, *range(context - len(read))]
        assert read[:head] == shift(full, context, head)[:head]
        assert len(shift(full, context, head)) < context
