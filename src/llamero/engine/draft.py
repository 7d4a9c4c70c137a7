"""Guessing with a smaller model of the same vocabulary, which writes ahead of the larger one.

It chooses with a copy of the run's own sampler, its random numbers included, and within the run's own constraint: so
the two models choose the same token wherever they agree, even at a high temperature. Its cache follows each run: what
was guessed wrong is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from llamero.engine.constraint import Matcher
from llamero.engine.cost import believed
from llamero.engine.drafter import Luck
from llamero.engine.request import Run
from llamero.engine.sampling import Logits, Sampler
from llamero.engine.sequence import Sequence
from llamero.errors import ConstraintError, ContextOverflow, SettingError, WeightsError

if TYPE_CHECKING:
    from llamero.engine.generate import Engine

_FIRST = 0.7  # how far a draft model is trusted at first
_TOGETHER = 8  # tokens that are read along with the first guess
_TRUST = 0.2  # how far one round moves what is believed of its speed


class DraftModel:
    """An engine that guesses for another one's runs.

    vocab: of the model that is guessed for. Raises SettingError where the two have not the same number of tokens; that
    they mean the same is for those who know the tokenizers to check.
    """

    def __init__(self, engine: Engine[Any, Any], vocab: int) -> None:
        if engine.vocab != vocab:
            raise SettingError(f"the draft model has {engine.vocab} tokens, the model {vocab}: they must be the same")
        self._engine = engine
        self._shadows: dict[Run, _Shadow] = {}
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        return self._seconds

    def chance(self, run: Run) -> float:
        with self._engine.lock:
            shadow = self._shadow(run)
        return shadow.luck.chance if len(run.sequence.ids) < self._engine.context else 0.0

    def draft(self, wanted: Ids[tuple[Run, int]]) -> list[list[int]]:
        with self._engine.lock:
            shadows = [self._shadow(run) for run, _ in wanted]
            for shadow, (run, count) in zip(shadows, wanted, strict=True):
                shadow.begin(run, min(count, self._engine.context - len(run.sequence.ids)))
            room, writing = self._engine.chunk, list[_Shadow]()
            for shadow in shadows:
                self._find(shadow.sequence)
                before = shadow.sequence.pending
                if self._ready(shadow, shadows, room):
                    writing.append(shadow)
                room -= before - shadow.sequence.pending
            while writing := [shadow for shadow in writing if shadow.left > 0]:
                self._round(writing)
        return [shadow.guesses for shadow in shadows]

    def learn(self, run: Run, drafted: int, accepted: int) -> None:
        luck = self._shadows[run].luck
        if drafted:
            luck.note(drafted, accepted)
        else:
            luck.fade()

    def forget(self, run: Run) -> None:
        with self._engine.lock:
            self._leave(run)

    def _shadow(self, run: Run) -> _Shadow:
        shadow = self._shadows.get(run)
        if shadow is None or shadow.source is not run.sequence:  # older tokens were dropped
            luck = shadow.luck if shadow else Luck(_FIRST)
            self._leave(run)
            sequence = Sequence(list(run.sequence.ids), run.sequence.space)
            shadow = self._shadows[run] = _Shadow(run.sequence, sequence, luck)
        return shadow

    def _leave(self, run: Run) -> None:
        """Leave what was read of a run's tokens to others."""
        shadow = self._shadows.pop(run, None)
        if shadow is not None:
            shadow.follow()
            self._engine.pool.release(shadow.sequence)

    def _find(self, sequence: Sequence) -> None:
        """Begin with what the cache holds of the sequence."""
        if not sequence.pages:
            self._engine.pool.follow(sequence)
            self._engine.pool.borrow(sequence)

    def _ready(self, shadow: _Shadow, together: Ids[_Shadow], room: int) -> bool:
        """Read what the run read since, at most `room` tokens of it; whether it can guess now."""
        pool, sequence = self._engine.pool, shadow.sequence
        guessing = {other.sequence for other in together}
        victims = [other for other in reversed(pool.working) if other not in guessing]
        late = sequence.pending - 1 > max(room, _TOGETHER)
        piece = max(room, 0) if late else sequence.pending - 1
        try:
            pool.reserve(sequence, sequence.held + piece + (0 if late else 1 + shadow.left), victims)
        except ContextOverflow:
            return False
        if piece > (0 if late else _TOGETHER):
            self._engine.forward([(sequence, piece)])
            pool.settle(sequence, tail=not late)
        return not late

    def _round(self, shadows: Ids[_Shadow]) -> None:
        """One more token of each."""
        started = perf_counter()
        rows = self._engine.forward([(shadow.sequence, shadow.sequence.pending) for shadow in shadows])
        for shadow, row in zip(shadows, rows, strict=True):
            shadow.choose(row[: self._engine.vocab])
        self._seconds = believed(self._seconds, (perf_counter() - started) / len(shadows), _TRUST)


@dataclass(eq=False)
class _Shadow:
    """A run's tokens in the draft model, with those that were guessed after them."""

    source: Sequence
    sequence: Sequence
    luck: Luck
    guesses: list[int] = field(default_factory=list)
    left: int = 0  # how many more are wanted
    confirmed: int = 0  # of its tokens, known to be the run's
    sampler: Sampler | None = None
    matcher: Matcher | None = None
    stop_ids: frozenset[int] = frozenset()

    def follow(self) -> None:
        """Have the run's tokens, and hold no others."""
        ids, mine = self.source.ids, self.sequence
        common, end = self.confirmed, min(len(ids), len(mine.ids))
        while common < end and mine.ids[common] == ids[common]:
            common += 1
        mine.ids[common:] = ids[common:]
        mine.held = min(mine.held, common, len(ids) - 1)
        self.confirmed = len(ids)

    def begin(self, run: Run, count: int) -> None:
        """Get ready to guess so many tokens."""
        self.follow()
        self.guesses, self.left = [], count
        self.sampler = run.sampler.copy()
        self.matcher = run.matcher.copy() if run.matcher else None
        self.stop_ids = run.request.stop_ids

    def choose(self, logits: Logits) -> None:
        """Guess the next token; an end of the answer, or what cannot go on, ends the guessing."""
        assert self.sampler is not None
        mask = self.matcher.mask if self.matcher else None
        try:
            token = self.sampler.choose(logits, len(self.sequence.ids) - 1, None, mask).id
            if token in self.stop_ids:
                self.left = 0
                return
            if self.matcher:
                self.matcher.accept(token)
        except (ConstraintError, WeightsError):
            self.left = 0
            return
        self.sequence.ids.append(token)
        self.guesses.append(token)
        self.left -= 1
