"""One request: what was asked for (frozen), and how far it has come. Ids only; whoever runs it owns the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from typing import Any, Literal

from llamero.engine.constraint import Constraint
from llamero.engine.context import Overflow, check_policy, fit, shift
from llamero.engine.sampling import Choice, Logits, Sampler, Sampling, check_number
from llamero.engine.sequence import Sequence
from llamero.errors import SettingError
from llamero.model.adapter import Adapter

FinishReason = Literal["stop", "length"]
_MOST_LOGPROBS = 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to continue, and how. Raises SettingError for a value out of its range.

    prompt: token ids, BOS included. max_tokens: at most so many new ones; None means as many as the context has room
    for, or, with overflow "shift", as many as it is long. stop_ids: tokens that end the answer and are not part of
    it. overflow, keep: see engine/context.py. logprobs: report each choice's logarithm and those of so many likeliest
    tokens. constraint: what the answer may say (engine/constraint.py). owner: who asks; the queue is fair between
    owners, and only requests of one owner and adapter share what was read. adapter: the name of the LoRA adapter to
    write with.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop_ids: frozenset[int] = frozenset()
    overflow: Overflow = "error"
    keep: int = 0
    logprobs: int | None = None
    constraint: Constraint | None = None
    owner: str = ""
    adapter: str | None = None

    def __post_init__(self) -> None:
        check_policy(self.overflow)
        check_number("keep", self.keep, int, 0, 2**31)
        if self.max_tokens is not None:
            check_number("max_tokens", self.max_tokens, int, 1, 2**31)
        if self.logprobs is not None:
            check_number("logprobs", self.logprobs, int, 0, _MOST_LOGPROBS)


class Run:
    """A request at work: its tokens, its sampler, its counts.

    Making one checks everything that can be checked before any work: ids, options, context.
    """

    def __init__(self, request: Request, *, vocab: int, context: int, adapter: Adapter[Any] | None = None) -> None:
        check_ids(request.prompt, vocab)
        ids = fit(request.prompt, context, request.overflow, request.keep, request.max_tokens)
        self.request = request
        self.vocab = vocab
        self.context = context
        self.sequence = Sequence(ids, (request.owner, adapter), adapter)
        self.sampler = Sampler(request.sampling, vocab, ids)
        self.answer: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens = len(request.prompt)
        self.paused = False  # whoever waits for the answer does not want more of it yet
        self.cached_tokens = 0  # of the prompt, found in the cache
        self.read_tokens = 0  # of the prompt, read by the model
        self.drafted_tokens = 0  # guessed and read
        self.accepted_tokens = 0  # of these, what was then chosen
        self.dropped_tokens = len(request.prompt) - len(ids)
        self.began = 0.0  # when its prompt began to be read (perf_counter); 0 while it waits
        self.prompt_seconds = 0.0  # from the start to the first token
        self.answer_seconds = 0.0  # for all tokens after the first
        self._most = request.max_tokens or (context if request.overflow == "shift" else context - len(ids))
        room = self._most if request.overflow == "shift" else min(self._most, context - len(ids))
        self.matcher = request.constraint.begin(room) if request.constraint else None

    @property
    def seed(self) -> int:
        """The seed in use, drawn when none was given."""
        return self.sampler.seed

    @property
    def most_tokens(self) -> int:
        """How many tokens the sequence may come to have."""
        return min(len(self.sequence.ids) + self._most - len(self.answer), self.context)

    def accept(self, logits: Logits) -> Choice | None:
        """Choose the next token from the logits (vocab or more,) after the last; None when it ends the answer.

        When the context is full and older tokens are dropped for it, `sequence` is a new one afterwards.
        Raises WeightsError when they are not finite, ConstraintError when the constraint allows nothing.
        """
        sequence, request, matcher = self.sequence, self.request, self.matcher
        mask = matcher.mask if matcher else None
        choice = self.sampler.choose(logits[: self.vocab], len(sequence.ids) - 1, request.logprobs, mask)
        if choice.id in request.stop_ids:
            self.finish_reason = "length" if matcher and matcher.hurried else "stop"
            return None
        if matcher:
            matcher.accept(choice.id)
        sequence.ids.append(choice.id)
        self.answer.append(choice.id)
        if len(self.answer) >= self._most:
            self.finish_reason = "length"
        elif len(sequence.ids) >= self.context:
            self._overflow()
        return choice

    def _overflow(self) -> None:
        if self.request.overflow != "shift":
            self.finish_reason = "length"
            return
        keep = min(self.request.keep, self.prompt_tokens)
        shorter = shift(self.sequence.ids, self.context, keep)
        self.dropped_tokens += len(self.sequence.ids) - len(shorter)
        self.sequence = Sequence(shorter, self.sequence.space, self.sequence.adapter)


def check_ids(ids: Ids[int], vocab: int) -> None:
    """Raise SettingError unless there are ids, all of the vocabulary."""
    if not ids:
        raise SettingError("no tokens were given, not even a BOS; give some text")
    if min(ids) < 0 or max(ids) >= vocab:
        place = next(i for i, token in enumerate(ids) if not 0 <= token < vocab)
        raise SettingError(f"token {ids[place]} at position {place} is not in the vocabulary 0 to {vocab - 1}")
