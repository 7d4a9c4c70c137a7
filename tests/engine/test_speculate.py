"""Guessing never changes an answer: same ids and logarithms, same distribution; and what it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamero.engine.cost import StepCost
from llamero.engine.draft import DraftModel
from llamero.engine.drafter import Drafter, Luck
from llamero.engine.generate import Engine
from llamero.engine.ngram import NgramDrafter
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Choice, Logits, Sampling
from llamero.engine.speculate import Speculation
from llamero.errors import SettingError
from llamero.formats.blocks import F32
from llamero.formats.tensor import Tensor, TensorInfo
from llamero.model.adapter import Adapter
from llamero.model.config import Config
from llamero.model.weights import Weights, assemble
from llamero.ops.adapted_ops import LowRank
from llamero.ops.native_ops import NativeOps

Make = Callable[..., Engine[Any, Any]]
PROMPT = (1, 17, 4, 33, 60, 2, 2, 9, 41, 5)
WILD = Sampling(temperature=1.3, top_p=0.95, repeat_penalty=1.1, presence_penalty=0.3, seed=11)
GREEDY = Sampling(temperature=0)


def exact_engine(plain: Weights[Any], context: int = 400, **rest: Any) -> Engine[Any, Any]:
    """An engine of these weights whose tokens have the same bits whatever else is in their step."""
    ops = NativeOps(2, deterministic=True)

    def get(name: str) -> Any:
        part = name.rpartition(".")[2]
        array: NDArray[np.float32] = getattr(plain.layers[int(name.split(".")[1])] if "." in name else plain, part)
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return ops.weight(Tensor(TensorInfo(name, F32, array.shape), data))

    return Engine(ops, assemble(plain.config, get), context=context, cache="f32", **rest)


class Prophet:
    """Guesses what it was told will come, each token right with a probability; and counts."""

    seconds = 0.0

    def __init__(self, answers: dict[tuple[int, ...], list[int]], right: float, vocab: int) -> None:
        self.answers, self.right, self.vocab = answers, right, vocab
        self.rng = np.random.default_rng(0)
        self.forgotten: list[Run] = []

    def chance(self, run: Run) -> float:  # noqa: ARG002
        return 0.9

    def draft(self, wanted: Sequence[tuple[Run, int]]) -> list[list[int]]:
        drafts = []
        for run, count in wanted:
            coming = self.answers[run.request.prompt][len(run.answer) : len(run.answer) + count]
            sure = self.rng.random(len(coming)) < self.right
            drafts.append([t if ok else int(self.rng.integers(self.vocab)) for t, ok in zip(coming, sure, strict=True)])
        return drafts

    def learn(self, run: Run, drafted: int, accepted: int) -> None:  # noqa: ARG002
        assert 0 <= accepted <= drafted

    def forget(self, run: Run) -> None:
        self.forgotten.append(run)


def speculate(engine: Engine[Any, Any], drafter: Drafter, *, cheap: bool = True) -> Engine[Any, Any]:
    """cheap: believe from the start that steps of many rows take no longer than others."""
    engine.speculation = Speculation(drafter)
    if cheap:
        engine.scheduler.cost.note(1, 0, 1.0)
        engine.scheduler.cost.note = lambda *_: None  # type: ignore[method-assign]
    return engine


class Heard:
    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.over = False
        self.error: Exception | None = None

    def read(self, done: int, total: int) -> None:
        pass

    def chose(self, choice: Choice) -> None:
        assert not self.over
        self.choices.append(choice)

    def ended(self, error: Exception | None) -> None:
        self.over, self.error = True, error


def serve(engine: Engine[Any, Any], requests: Sequence[Request]) -> list[tuple[Run, Heard]]:
    all_of_them = [(engine.plan(request), Heard()) for request in requests]
    for run, heard in all_of_them:
        engine.scheduler.submit(run, heard)
    while engine.scheduler.step():
        pass
    assert all(heard.over and heard.error is None for _, heard in all_of_them)
    return all_of_them


def requests(sampling: Sampling, count: int = 40, many: int = 4, **rest: Any) -> list[Request]:
    return [
        Request(prompt=(*PROMPT, number), sampling=sampling, max_tokens=count + number, logprobs=2, **rest)
        for number in range(many)
    ]


def plainly(engine: Engine[Any, Any], asked: Sequence[Request]) -> dict[tuple[int, ...], list[int]]:
    """The answers without guessing."""
    assert engine.speculation is None
    return {run.request.prompt: run.answer for run, _ in serve(engine, asked)}


@pytest.fixture
def weights(make_engine: Make) -> Weights[Any]:
    return make_engine().weights


@pytest.fixture
def exact(weights: Weights[Any]) -> Callable[..., Engine[Any, Any]]:
    return lambda **rest: exact_engine(weights, **rest)


@pytest.mark.parametrize("sampling", [GREEDY, WILD], ids=["greedy", "wild"])
@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_answers_are_the_same_to_the_last_bit(exact: Make, sampling: Sampling, right: float) -> None:
    plain = serve(exact(), requests(sampling))
    answers = {run.request.prompt: run.answer for run, _ in plain}
    engine = speculate(exact(), Prophet(answers, right, exact().vocab))
    guessed = serve(engine, requests(sampling))
    for (run, heard), (other, said) in zip(plain, guessed, strict=True):
        assert other.answer == run.answer == [choice.id for choice in said.choices]
        assert said.choices == heard.choices  # logarithms too
        assert other.finish_reason == run.finish_reason
    drafted, accepted = (sum(getattr(run, f"{what}_tokens") for run, _ in guessed) for what in ("drafted", "accepted"))
    assert drafted > 100
    assert accepted == drafted if right == 1 else accepted < drafted
    assert accepted / drafted < 0.1 if right == 0 else accepted > drafted / 10


@pytest.mark.parametrize("right", [0.5, 1.0])
def test_one_by_one_when_asked_for(exact: Make, right: float) -> None:
    """`generate` gives each token when it is wanted, and has chosen no other when it is left."""
    (request,) = requests(WILD, many=1)
    answers = plainly(exact(), [request])
    engine = speculate(exact(), Prophet(answers, right, exact().vocab))
    run = engine.plan(request)
    told: list[int] = []
    for choice in engine.generate(run):
        told.append(choice.id)
        assert run.answer == told
        if len(told) == 23:
            break
    assert told == answers[request.prompt][:23]
    again = engine.plan(request)
    assert [choice.id for choice in engine.generate(again)] == answers[request.prompt]
    assert again.cached_tokens == len(request.prompt) - 1
    assert not engine.scheduler.busy


def test_streams_in_turns_that_take_each_others_pages(exact: Make) -> None:
    asked = requests(GREEDY, count=60, many=3)
    answers = plainly(exact(context=128), asked)
    engine = speculate(exact(context=128), Prophet(answers, 0.7, exact().vocab))
    streams = [engine.generate(engine.plan(request)) for request in asked]
    told: list[list[int]] = [[] for _ in asked]
    for _ in range(60):
        for ids, stream in zip(told, streams, strict=True):
            ids.append(next(stream).id)
    assert told == [answers[request.prompt][:60] for request in asked]


def test_right_guesses_save_steps(make_engine: Make) -> None:
    (request,) = requests(GREEDY, many=1)
    answers = plainly(make_engine(), [request])
    engine = speculate(make_engine(), Prophet(answers, 1.0, 61))
    ((run, _),) = serve(engine, [request])
    assert run.answer == answers[request.prompt]
    assert len(engine.ops.steps) < 8  # 40 tokens: the prompt, then a dozen guesses and a choice in each step
    assert max(step[0] for step in engine.ops.steps[1:]) > 12
    assert run.drafted_tokens == run.accepted_tokens >= 33


def test_the_distribution_is_the_models(make_engine: Make) -> None:
    """Chi-square: pairs of tokens of 1,500 seeds, half of the guesses right, beside those of the model itself."""
    engine = make_engine(context=64)
    head = engine.logits(PROMPT)[-1].astype(np.float64)
    likely = np.exp(head - head.max())
    likely /= likely.sum()
    speculate(engine, Guesser(int(likely.argmax())))
    first, second, count = Counter[int](), Counter[int](), 1500
    for seed in range(count):
        sampling = Sampling(temperature=1, top_p=1, seed=seed)
        run = engine.plan(Request(prompt=PROMPT[:-1], sampling=sampling, max_tokens=3))
        run.sequence.ids.append(PROMPT[-1])  # so that the first choice, too, is guessed
        ids = [choice.id for choice in engine.generate(run)]
        first[ids[0]] += 1
        if ids[0] == int(likely.argmax()):
            second[ids[1]] += 1
    after = engine.logits((*PROMPT, int(likely.argmax())))[-1].astype(np.float64)
    follows = np.exp(after - after.max())
    follows /= follows.sum()
    for seen, chances in ((first, likely), (second, follows)):
        assert chi_square(seen, chances) < 1.0


class Guesser:
    """Always guesses one token, over and over."""

    seconds = 0.0

    def __init__(self, token: int) -> None:
        self.token = token

    def chance(self, run: Run) -> float:  # noqa: ARG002
        return 0.5

    def draft(self, wanted: Sequence[tuple[Run, int]]) -> list[list[int]]:
        return [[self.token] * count for _, count in wanted]

    def learn(self, run: Run, drafted: int, accepted: int) -> None:
        pass

    def forget(self, run: Run) -> None:
        pass


def chi_square(seen: Counter[int], chances: NDArray[np.float64]) -> float:
    """The statistic over its 99.9th percentile (Wilson and Hilferty 1931); rare tokens are put together."""
    total = seen.total()
    common = np.flatnonzero(chances * total >= 8)
    want = [*(chances[common] * total), (1 - chances[common].sum()) * total]
    got = [*(seen[int(token)] for token in common), total - sum(seen[int(token)] for token in common)]
    statistic = sum((g - w) ** 2 / w for g, w in zip(got, want, strict=True) if w > 1)
    free = len(common)
    return statistic / (free * (1 - 2 / (9 * free) + 3.09 * np.sqrt(2 / (9 * free))) ** 3)


def test_a_full_context_shifts_as_without_guesses(exact: Make) -> None:
    asked = requests(GREEDY, count=90, many=2, overflow="shift")
    plain = serve(exact(context=64), asked)
    answers = {run.request.prompt: run.answer for run, _ in plain}
    for drafter in (Prophet(answers, 0.8, 61), NgramDrafter(), DraftModel(exact(context=64), 61)):
        guessed = serve(speculate(exact(context=64), drafter), asked)
        for (run, _), (other, _) in zip(plain, guessed, strict=True):
            assert (other.answer, other.dropped_tokens) == (run.answer, run.dropped_tokens)
            assert other.dropped_tokens > 0


def test_an_end_token_ends_among_guesses(exact: Make) -> None:
    (request,) = requests(GREEDY, many=1)
    answers = plainly(exact(), [request])
    answer = answers[request.prompt]
    end = next(token for place, token in enumerate(answer) if place > 4 and token not in answer[:place])
    asked = Request(prompt=request.prompt, sampling=GREEDY, stop_ids=frozenset({end}))
    engine = speculate(exact(), Prophet(answers, 1.0, 61))
    ((run, _),) = serve(engine, [asked])
    assert run.answer == answer[: answer.index(end)]
    assert run.finish_reason == "stop"


def test_whoever_cancels_among_guesses_hears_no_more(exact: Make) -> None:
    (request,) = requests(GREEDY, many=1)
    answers = plainly(exact(), [request])
    engine = speculate(exact(), Prophet(answers, 1.0, 61))
    run = engine.plan(request)

    class Leaves(Heard):
        def chose(self, choice: Choice) -> None:
            super().chose(choice)
            if len(self.choices) == 7:
                engine.scheduler.cancel(run)

    heard = Leaves()
    engine.scheduler.submit(run, heard)
    while engine.scheduler.step():
        pass
    assert [choice.id for choice in heard.choices] == run.answer == answers[request.prompt][:7]
    assert heard.over
    ((again, _),) = serve(engine, [request])
    assert again.answer == answers[request.prompt]
    assert again.cached_tokens > 0


class OnlyEven:
    """A constraint: even tokens, each no more than 30 above the one before."""

    hurried = False

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def begin(self, room: int | None = None) -> OnlyEven:  # noqa: ARG002
        return OnlyEven()

    def copy(self) -> OnlyEven:
        return OnlyEven(self.last)

    def mask(self, logits: Logits) -> None:
        logits[1::2] = -np.inf
        logits[self.last + 31 :] = -np.inf

    def accept(self, token: int) -> None:
        assert token % 2 == 0
        assert token <= self.last + 30
        self.last = token


@pytest.mark.parametrize("sampling", [GREEDY, WILD], ids=["greedy", "wild"])
def test_a_constraint_walks_along(exact: Make, sampling: Sampling) -> None:
    asked = requests(sampling, constraint=OnlyEven())
    plain = serve(exact(), asked)
    answers = {run.request.prompt: run.answer for run, _ in plain}
    twin = DraftModel(exact(), 61)
    for drafter in (Prophet(answers, 0.7, 61), NgramDrafter(), twin):
        guessed = serve(speculate(exact(), drafter), asked)
        assert [run.answer for run, _ in guessed] == [run.answer for run, _ in plain]
    assert all(run.accepted_tokens == run.drafted_tokens > 0 for run, _ in guessed)  # the twin obeys too


@pytest.mark.parametrize("sampling", [GREEDY, WILD], ids=["greedy", "wild"])
def test_a_draft_model_that_is_the_model_is_always_right(exact: Make, sampling: Sampling) -> None:
    plain = plainly(exact(), requests(sampling))
    engine = speculate(exact(), DraftModel(exact(context=600), 61))
    for run, _ in serve(engine, requests(sampling)):
        assert run.answer == plain[run.request.prompt]
        assert run.accepted_tokens == run.drafted_tokens >= 30


def test_another_draft_model_changes_nothing(exact: Make, weights: Weights[Any]) -> None:
    """One with noise in it, and a cache too small for all, whose context ends before the answers do."""
    rng = np.random.default_rng(5)
    noisy = assemble(weights.config, lambda name: blurred(weights, name, rng))
    plain = plainly(exact(), requests(WILD, count=80))
    for context in (400, 64):
        drafter = DraftModel(exact_engine(noisy, context=context, chunk=8), 61)
        runs = [run for run, _ in serve(speculate(exact(), drafter), requests(WILD, count=80))]
        assert [run.answer for run in runs] == list(plain.values())
        assert any(0 < run.accepted_tokens < run.drafted_tokens for run in runs)
    with pytest.raises(SettingError, match="draft model has 61 tokens, the model 60"):
        DraftModel(exact(), 60)


def blurred(weights: Weights[Any], name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    part = name.rpartition(".")[2]
    array: NDArray[np.float32] = getattr(weights.layers[int(name.split(".")[1])] if "." in name else weights, part)
    return array + (0.03 * rng.standard_normal(array.shape)).astype(np.float32)


def test_a_draft_model_finds_its_own_beginnings(make_engine: Make) -> None:
    small = make_engine()
    engine = speculate(make_engine(), DraftModel(small, 61))
    (request,) = requests(GREEDY, many=1)
    ((run, _),) = serve(engine, [request])
    before = small.ops.read
    longer = Request(prompt=(*request.prompt, *run.answer, 3, 4), sampling=GREEDY, max_tokens=4)
    serve(engine, [longer])
    assert small.ops.read - before < 12


@pytest.mark.parametrize("kind", ["prophet", "lookup", "draft"])
def test_a_crowd_that_comes_and_goes(exact: Make, kind: str) -> None:
    """Many runs with several adapters in a cache too small for all; some leave early; none hears another's tokens."""
    rng = np.random.default_rng(3)
    engine = exact(context=128, room=384, chunk=16)
    for seed in (1, 2):
        engine.adapters.add(f"a{seed}", random_changes(engine.weights.config, seed))
    asked = [
        Request(
            prompt=(1, *([5, 9, 11, 7] * 6)[: rng.integers(2, 20)], *rng.integers(0, 61, rng.integers(1, 30)).tolist()),
            sampling=Sampling(temperature=float(rng.choice([0.0, 0.8])), seed=number),
            max_tokens=int(rng.integers(1, 70)),
            adapter=(None, "a1", "a2")[number % 3],
            overflow="shift" if number % 5 == 0 else "error",
            owner=f"{number % 2}",
        )
        for number in range(40)
    ]
    plain = [run.answer for run, _ in serve(engine, asked)]
    answers = {request.prompt: answer for request, answer in zip(asked, plain, strict=True)}
    drafter: dict[str, Callable[[], Drafter]] = {
        "prophet": lambda: Prophet(answers, 0.8, 61),
        "lookup": NgramDrafter,
        "draft": lambda: DraftModel(exact(context=100, room=200, chunk=16), 61),
    }
    speculate(engine, drafter[kind]())
    runs, leaving = [], {}
    for request in asked:
        run, heard = engine.plan(request), Heard()
        engine.scheduler.submit(run, heard)
        runs.append((run, heard))
        if rng.random() < 0.3:
            leaving[run] = int(rng.integers(0, 40))
        for _ in range(rng.integers(0, 4)):
            engine.scheduler.step()
            for other, after in list(leaving.items()):
                if len(other.answer) >= after:
                    engine.scheduler.cancel(other)
                    del leaving[other]
    while engine.scheduler.step():
        pass
    for (run, heard), answer in zip(runs, plain, strict=True):
        assert heard.over
        assert heard.error is None
        assert [choice.id for choice in heard.choices] == run.answer == answer[: len(run.answer)]
        assert run.finish_reason is None or len(run.answer) == len(answer)
    assert sum(run.finish_reason is not None for run, _ in runs) > 20
    assert sum(run.accepted_tokens for run, _ in runs) > (0 if kind == "lookup" else 10)
    standing = engine.scheduler.standing()
    assert (standing.pages_used, standing.writing, standing.reading, standing.waiting) == (0, 0, 0, 0)


def test_a_step_that_is_broken_off_leaves_no_guesses_behind(make_engine: Make) -> None:
    asked = requests(GREEDY, many=2)
    answers = plainly(make_engine(), asked)
    engine = speculate(make_engine(), Prophet(answers, 1.0, 61))
    heard = [Heard(), Heard()]
    for request, one in zip(asked, heard, strict=True):
        engine.scheduler.submit(engine.plan(request), one)
    engine.scheduler.step()
    swiglu = engine.ops.swiglu

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    engine.ops.swiglu = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.scheduler.step()
    engine.ops.swiglu = swiglu
    engine.speculation = None
    while engine.scheduler.step():
        pass
    assert [[choice.id for choice in one.choices] for one in heard] == list(answers.values())


def test_a_run_without_room_for_guesses(make_engine: Make) -> None:
    """Its drafter is not asked, and hears nothing."""
    engine = speculate(make_engine(), NgramDrafter())
    ((run, _),) = serve(engine, [Request(prompt=(1, 5, 6, 5, 6), sampling=GREEDY, max_tokens=1)])
    assert (len(run.answer), run.drafted_tokens) == (1, 0)


def test_a_drafter_that_fails_ends_its_runs_and_nothing_else(make_engine: Make) -> None:
    class Broken(Guesser):
        def draft(self, wanted: Sequence[tuple[Run, int]]) -> list[list[int]]:
            raise RuntimeError(f"no idea about {len(wanted)}")

    engine = speculate(make_engine(), Broken(3))
    run, heard = engine.plan(requests(GREEDY, many=1)[0]), Heard()
    engine.scheduler.submit(run, heard)
    while engine.scheduler.step():
        pass
    assert heard.over
    assert "no idea" in str(heard.error)
    engine.speculation = None
    serve(engine, requests(GREEDY, many=2))


def random_changes(config: Config, seed: int) -> Adapter[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    changes = {
        name: LowRank(*((0.2 * rng.standard_normal((3, size))).astype(np.float32) for size in (shape[1], shape[0])))
        for name, shape in config.shapes().items()
        if name.startswith("layers.") and len(shape) == 2
    }
    return Adapter(Path(f"random-{seed}"), changes)


def test_lookup_finds_what_repeats(make_engine: Make) -> None:
    run = make_engine().plan(Request(prompt=(1, 5, 6, 7, 8, 9, 5, 6, 7), sampling=GREEDY))
    drafter = NgramDrafter()
    assert drafter.chance(run) == pytest.approx(0.5)  # three match
    assert drafter.draft([(run, 5)]) == [[8, 9, 5, 6, 7]]
    assert drafter.draft([(run, 8)]) == [[8, 9, 5, 6, 7, 8, 9, 5]]  # and round again
    run.sequence.ids += [8, 30]
    assert drafter.chance(run) == 0
    assert drafter.draft([(run, 5)]) == [[]]
    run.sequence.ids += [5, 6]
    assert drafter.draft([(run, 1)]) == [[]]  # not looked at yet
    assert drafter.chance(run) == pytest.approx(0.25)
    assert drafter.draft([(run, 3)]) == [[7, 8, 30]]  # the latest of two places


def test_lookup_trusts_what_was_right_before(make_engine: Make) -> None:
    run = make_engine().plan(Request(prompt=(1, 5, 6, 7, 8, 9, 5, 6, 7), sampling=GREEDY))
    drafter = NgramDrafter()
    chances = []
    for accepted in (4, 4, 4, 0, 0, 0, 0, 0, 0):
        chances.append(drafter.chance(run))
        drafter.learn(run, 4, accepted)
    assert chances[0] < chances[1] < chances[2] < chances[3] > chances[4] > chances[8]
    assert chances[8] < 0.5
    for _ in range(300):
        drafter.learn(run, 0, 0)
    assert drafter.chance(run) == pytest.approx(0.5, abs=0.05)


def test_luck_counts_up_to_the_first_wrong_guess() -> None:
    luck = Luck(0.5)
    for _ in range(100):
        luck.note(8, 1)  # one right, one wrong, six nobody knows
    assert luck.chance == pytest.approx(0.5)


def test_what_steps_take_is_learnt() -> None:
    cost = StepCost()
    assert not cost.known(0)
    cost.note(1, 0, 10.0)
    one, five = cost.curve(1, 4)[::4]
    assert one == 10 < five < 13
    cost.note(9, 0, 50.0)
    assert cost.curve(1, 8)[::4] == pytest.approx([10, 30, 50])
    cost.note(1, 0, 1000.0)  # a hiccup
    assert cost.curve(1, 0) == pytest.approx([12])
    cost.note(1, 0, 8.0)
    assert cost.curve(1, 0) == pytest.approx([10])
    for _ in range(100):
        cost.note(4, 0, 1000.0)  # no step takes longer than a larger one
    assert cost.curve(4, 0) == cost.curve(9, 0)
    for _ in range(2000):
        cost.note(1, 0, 10.0)
    assert cost.curve(1, 8)[8] == pytest.approx(10)  # it is long ago that it took longer
    assert not cost.known(64)
    cost.note(65, 64, 650.0)
    assert np.diff(cost.curve(65, 3, 64)) == pytest.approx([10, 10, 10])


@pytest.mark.parametrize(
    ("others", "row", "guesses"),
    [(0, 0.0, True), (0, 0.2, True), (0, 2.0, False), (15, 0.0, True), (15, 0.2, False), (63, 0.05, False)],
)
def test_guessing_is_left_where_it_does_not_pay(make_engine: Make, others: int, row: float, guesses: bool) -> None:
    """A step takes 1 second and `row` for each row."""
    engine = make_engine()
    cost = StepCost()
    for rows in range(1, 100):
        cost.note(rows, 0, 1 + row * rows)
    run = engine.plan(requests(GREEDY, many=1)[0])
    runs = [(run, 20)] if guesses or not others else [(run, 20), *((run, 0),) * others]
    found = Speculation(Guesser(3)).guess(runs, cost, 1 + others)
    assert bool(found) == guesses


def test_guesses_need_room(make_engine: Make) -> None:
    """Pages that others hold are not taken for guesses, and an answer of so many tokens needs no more of them."""
    (request,) = requests(GREEDY, count=5, many=1)
    answers = plainly(make_engine(), [Request(prompt=request.prompt, sampling=GREEDY, max_tokens=60)])
    engine = speculate(make_engine(), Prophet(answers, 1.0, 61))
    ((run, _),) = serve(engine, [request])
    assert run.drafted_tokens == run.accepted_tokens == 4 - 1
    engine = speculate(make_engine(context=64), Prophet(answers, 1.0, 61))
    whole = Request(prompt=request.prompt, sampling=GREEDY)
    ((run, _),) = serve(engine, [whole])
    assert run.answer == answers[request.prompt][: 64 - len(request.prompt)]
