"""The loop on ids against a loop without a cache: reuse, interleaving, eviction, batching, and broken weights."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llamero.engine.generate import Engine
from llamero.engine.request import Request
from llamero.engine.sampling import Sampling
from llamero.engine.tree import shared
from llamero.errors import ContextOverflow, SettingError, WeightsError
from llamero.model.llama import forward
from llamero.ops.numpy_ops import NumpyOps
from llamero.ops.protocol import Span

Make = Callable[..., Engine[Any, Any]]
Slowly = Callable[..., list[int]]
GREEDY = Sampling(temperature=0)
PROMPT = (1, 17, 4, 33, 60, 2, 2, 9, 41, 5)


def greedy(prompt: tuple[int, ...], max_tokens: int | None = 12, **rest: Any) -> Request:
    return Request(prompt=prompt, sampling=GREEDY, max_tokens=max_tokens, **rest)


def answer(engine: Engine[Any, Any], request: Request) -> list[int]:
    run = engine.plan(request)
    ids = [choice.id for choice in engine.generate(run)]
    assert ids == run.answer
    return ids


@pytest.mark.parametrize("chunk", [1, 3, 10, 512])
def test_greedy_agrees_with_the_slow_loop(make_engine: Make, slowly: Slowly, chunk: int) -> None:
    engine = make_engine(chunk=chunk)
    assert answer(engine, greedy(PROMPT)) == slowly(PROMPT, 12)
    assert max(max(step) for step in engine.ops.steps) <= chunk


def test_a_prompt_begun_alike_is_not_read_again(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    first = engine.plan(greedy(PROMPT, 5))
    told = [choice.id for choice in engine.generate(first)]
    assert first.cached_tokens == 0
    longer = (*PROMPT, *told, 7, 8)
    second = engine.plan(greedy(longer, 6))
    before = engine.ops.read
    assert [choice.id for choice in engine.generate(second)] == slowly(longer, 6)
    assert second.cached_tokens == len(PROMPT) + 4  # the last token chosen was never read
    assert engine.ops.read - before == 3 + 5


def test_the_same_prompt_again_reads_its_last_token_only(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    answer(engine, greedy(PROMPT, 4))
    run = engine.plan(greedy(PROMPT, 4))
    assert [choice.id for choice in engine.generate(run)] == slowly(PROMPT, 4)
    assert run.cached_tokens == len(PROMPT) - 1


def test_turning_back_leaves_no_trace(make_engine: Make, slowly: Slowly) -> None:
    """A conversation rewound to its third token and continued elsewhere sees nothing of what was there."""
    engine = make_engine()
    answer(engine, greedy(PROMPT, 9))
    other = (*PROMPT[:3], 50, 51, 52, 53)
    run = engine.plan(greedy(other, 9))
    assert [choice.id for choice in engine.generate(run)] == slowly(other, 9)
    assert run.cached_tokens == 3


def test_conversations_rest_side_by_side_until_room_is_needed(make_engine: Make, slowly: Slowly) -> None:
    prompts = [(start, *range(20, 50)) for start in (3, 4, 5)]
    engine = make_engine(context=192)  # three pages: each conversation takes one
    for prompt in prompts:
        answer(engine, greedy(prompt, 5))
    again = engine.plan(greedy(prompts[0], 5))
    list(engine.generate(again))
    assert again.cached_tokens == 30
    long = tuple(range(60)) * 2  # two pages: the two that rested longest give way
    assert answer(engine, greedy(long, 5)) == slowly(long, 5)
    for prompt, cached in ((prompts[0], 30), (prompts[1], 0)):
        run = engine.plan(greedy(prompt, 5))
        assert [choice.id for choice in engine.generate(run)] == slowly(prompt, 5)
        assert run.cached_tokens == cached


def test_a_common_bos_takes_nobodys_place(make_engine: Make) -> None:
    engine = make_engine()
    answer(engine, greedy((1, 10, 11, 12), 3))
    run = engine.plan(greedy((1, 20, 21, 22), 3))
    list(engine.generate(run))
    assert run.cached_tokens == 0
    back = engine.plan(greedy((1, 10, 11, 12), 3))
    list(engine.generate(back))
    assert back.cached_tokens == 3


@pytest.mark.parametrize("context", [256, 64])
def test_streams_read_in_turns_do_not_mix(make_engine: Make, slowly: Slowly, context: int) -> None:
    """With a cache of one page they evict each other at every token, and still say the same."""
    engine = make_engine(context=context)
    prompts = [(2, 3, 4), (9, 8, 7, 6)]
    streams = [engine.generate(engine.plan(greedy(prompt, 10))) for prompt in prompts]
    told: list[list[int]] = [[], []]
    for _ in range(10):
        for ids, stream in zip(told, streams, strict=True):
            ids.append(next(stream).id)
    assert told == [slowly(prompt, 10) for prompt in prompts]


def test_threads_do_not_mix(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    prompts = [(i, 2 * i, 3 * i) for i in range(1, 7)]
    told: dict[tuple[int, ...], list[int]] = {}
    threads = [
        threading.Thread(target=lambda p=prompt: told.__setitem__(p, answer(engine, greedy(p, 8))))  # type: ignore[misc]
        for prompt in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == {prompt: slowly(prompt, 8) for prompt in prompts}


def test_an_abandoned_stream_rests(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    stream = engine.generate(engine.plan(greedy(PROMPT, 50)))
    told = [next(stream).id for _ in range(4)]
    del stream
    gc.collect()
    run = engine.plan(greedy((*PROMPT, *told), 3))
    assert [choice.id for choice in engine.generate(run)] == slowly((*PROMPT, *told), 3)
    assert run.cached_tokens == len(PROMPT) + 3


def test_a_step_that_fails_leaves_the_sequence_whole(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine()
    stream = engine.generate(engine.plan(greedy(PROMPT, 10)))
    told = [next(stream).id for _ in range(3)]
    swiglu = engine.ops.swiglu

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    engine.ops.swiglu = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    engine.ops.swiglu = swiglu
    again = (*PROMPT, *told)
    run = engine.plan(greedy(again, 10))
    assert [choice.id for choice in engine.generate(run)] == slowly(again, 10)
    assert run.cached_tokens == len(again) - 1


def test_one_step_serves_many_sequences(make_engine: Make, slowly: Slowly) -> None:
    """What a scheduler will do: several sequences, some mid-prompt, some writing, in one forward pass."""
    engine = make_engine()
    prompts = [PROMPT, (5, 6), (7, 8, 9)]
    runs = [engine.plan(greedy(prompt, 6)) for prompt in prompts]
    while any(run.finish_reason is None for run in runs):
        active = [run for run in runs if run.finish_reason is None]
        logits = engine.step([(run.sequence, min(run.sequence.pending, 4)) for run in active])
        ready = [run for run in active if not run.sequence.pending]
        assert len(logits) == len(ready)
        for run, row in zip(ready, logits, strict=True):
            run.accept(row)
    assert [run.answer for run in runs] == [slowly(prompt, 6) for prompt in prompts]
    assert [4, 2, 3] in engine.ops.steps


def test_stop_ids_end_the_answer_and_are_not_part_of_it(make_engine: Make, slowly: Slowly) -> None:
    wanted = slowly(PROMPT, 12)
    stop = wanted[5]
    run = make_engine().plan(greedy(PROMPT, stop_ids=frozenset({stop})))
    engine = make_engine()
    assert [choice.id for choice in engine.generate(run)] == wanted[: wanted.index(stop)]
    assert run.finish_reason == "stop"


def test_an_answer_ends_at_max_tokens(make_engine: Make) -> None:
    engine = make_engine()
    run = engine.plan(greedy(PROMPT, 1))
    assert len(list(engine.generate(run))) == 1
    assert run.finish_reason == "length"


def test_seeds_repeat_and_differ(make_engine: Make) -> None:
    engine = make_engine()

    def told(seed: int | None) -> tuple[list[int], int]:
        run = engine.plan(Request(prompt=PROMPT, sampling=Sampling(temperature=1.5, top_p=1, seed=seed), max_tokens=20))
        return [choice.id for choice in engine.generate(run)], run.seed

    first, seed = told(None)
    assert told(seed) == (first, seed)
    assert told(1)[0] != told(2)[0]


def test_progress_of_a_long_prompt(make_engine: Make) -> None:
    engine = make_engine(chunk=4)
    seen: list[tuple[int, int]] = []
    list(engine.generate(engine.plan(greedy(PROMPT, 3)), lambda done, total: seen.append((done, total))))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_logits_of_a_text_are_those_of_one_pass(make_engine: Make) -> None:
    engine = make_engine(chunk=3)
    whole = forward(NumpyOps(), engine.weights, None, PROMPT, [Span(0, len(PROMPT))])
    np.testing.assert_allclose(engine.logits(PROMPT), whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(engine.logits(PROMPT[:1]), whole[:1], rtol=1e-4, atol=1e-4)


def test_embedding_is_the_scaled_mean(make_engine: Make) -> None:
    engine = make_engine(chunk=4)
    a, b = engine.embedding(PROMPT), make_engine().embedding(PROMPT)
    assert a.shape == (32,)
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-6)
    assert a @ engine.embedding(PROMPT[::-1]) < 0.9999


def test_embeddings_of_many_are_those_of_each(make_engine: Make) -> None:
    engine = make_engine(chunk=20)
    texts = [PROMPT[:3], PROMPT[::-1], [7] * 45, PROMPT[:1], [9] * 19, PROMPT]
    told: list[tuple[int, int]] = []
    together = engine.embeddings(texts, lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(together, [engine.embedding(text) for text in texts], atol=1e-5)
    assert told[-1] == (6, 6)
    assert len({done for done, _ in told}) < 6  # short ones were read together
    with pytest.raises(SettingError):
        engine.embeddings([PROMPT, [10**6]])


def test_scores_are_the_logarithms_of_what_follows(make_engine: Make) -> None:
    engine = make_engine(chunk=5)
    logits = engine.logits(PROMPT).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    scores = list(engine.scores(PROMPT, 3))
    assert [choice.id for choice in scores] == list(PROMPT[1:])
    np.testing.assert_allclose(
        [choice.logprob for choice in scores], [logs[i, t] for i, t in enumerate(PROMPT[1:])], atol=1e-4
    )
    for row, choice in zip(logs, scores, strict=False):
        assert [token for token, _ in choice.top] == np.argsort(-row)[:3].tolist()


def test_reading_texts_takes_room_from_the_resting_and_gives_it_back(make_engine: Make, slowly: Slowly) -> None:
    engine = make_engine(context=128)
    answer(engine, greedy(PROMPT, 5))
    engine.logits(list(range(60)) * 2)
    with pytest.raises(ContextOverflow) as caught:
        engine.logits([1] * 129)
    assert (caught.value.tokens, caught.value.context) == (129, 128)
    long = tuple(range(60)) * 2
    assert answer(engine, greedy(long, 5)) == slowly(long, 5)


@pytest.mark.parametrize("ids", [[], [61], [-1], [3, 4, 99]])
def test_ids_outside_the_vocabulary_are_refused(make_engine: Make, ids: list[int]) -> None:
    engine = make_engine()
    with pytest.raises(SettingError, match=r"no tokens|not in the vocabulary 0 to 60"):
        engine.plan(Request(prompt=tuple(ids)))
    with pytest.raises(SettingError):
        engine.logits(ids)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"keep": -1}, "keep"),
        ({"logprobs": -1}, "logprobs"),
        ({"overflow": "shfit"}, "did you mean 'shift'"),
    ],
)
def test_requests_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Request(prompt=(1,), **option)


def test_nan_weights_are_an_error_that_says_so(make_engine: Make) -> None:
    weights = make_engine().weights
    broken = weights.layers[1].w2.copy()
    broken[3, 3] = np.nan
    layers = (weights.layers[0], replace(weights.layers[1], w2=broken))
    engine = make_engine(weights=replace(weights, layers=layers))
    with pytest.raises(WeightsError, match=r"position 9 .*llamero inspect"):
        answer(engine, greedy(PROMPT))
    with pytest.raises(WeightsError, match="damaged"):
        engine.embedding(PROMPT)


def test_two_engines_share_nothing(make_engine: Make, slowly: Slowly) -> None:
    one, two = make_engine(), make_engine()
    answer(one, greedy(PROMPT))
    run = two.plan(greedy(PROMPT))
    assert [choice.id for choice in two.generate(run)] == slowly(PROMPT, 12)
    assert run.cached_tokens == 0


def test_shared_beginnings() -> None:
    assert shared([1, 2, 3], [1, 2, 4]) == 2
    assert shared([], [1]) == 0
