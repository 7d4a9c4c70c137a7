"""Speculative decoding: several guessed tokens are read in one step, and as many as turn out right are kept.

The model's own sampler chooses at each position, from the model's logits and with the random numbers it would have used
anyway; a guess is kept exactly when it is what was chosen. So the answer is the one without guessing, whatever the
guesses were (up to the rounding of products of several rows; to the last bit with deterministic operations). That is
less often right than the rule of Leviathan et al. (2023), which keeps a guess with probability min(1, p / q), but a
seed means the same with and without it, and penalties and grammars need no second thoughts.

How many tokens are worth guessing: each makes the step longer, for all who take part, and is used with the probability
that it and all before it are right. Guesses are added, the likeliest first, while the step's tokens per second rise.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from llamero.engine.drafter import Drafter
from llamero.engine.request import Run
from llamero.engine.sampling import Logits
from llamero.engine.sequence import Sequence as Tokens

MOST = 16  # tokens guessed at once for one run


@dataclass(eq=False)
class Trial:
    """Guesses that were read after a sequence, and the logits (guesses, vocab) after each; so many were right."""

    sequence: Tokens
    guesses: list[int]
    rows: Logits
    right: int = 0

    def confirm(self, run: Run) -> Logits | None:
        """The logits after the next guess, if that is what the run has just chosen; else None."""
        sequence = self.sequence
        if run.finish_reason is not None or run.sequence is not sequence:
            return None
        if self.right == len(self.guesses) or sequence.ids[-1] != self.guesses[self.right]:
            return None
        if len(sequence.ids) - sequence.held == 1:  # else its pages were taken away meanwhile
            sequence.held += 1
        self.right += 1
        row: Logits = self.rows[self.right - 1]
        return row


class Speculation:
    """Guesses for one engine's runs."""

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self._cost = StepCost()

    def judge(self, run: Run, trial: Trial) -> None:
        """All guesses of a trial that were looked at have been."""
        run.drafted_tokens += len(trial.guesses)
        run.accepted_tokens += trial.right
        self.drafter.learn(run, len(trial.guesses), trial.right)

    def guess(self, runs: Sequence[tuple[Run, int]], rows: int, reading: int = 0) -> dict[Run, list[int]]:
        """Tokens to read after those of runs that write one each, at most as many as each has room for.

        rows: of the step without guesses, of which `reading` belong to prompts.
        """
        if not self._cost.known(reading):
            return {}
        wanted = [(run, count) for run, count in self._share_out(runs, rows, reading) if count]
        drafts = self.drafter.draft(wanted) if wanted else []
        return {run: draft for (run, _), draft in zip(wanted, drafts, strict=True) if draft}

    def forget(self, run: Run) -> None:
        """A run has ended."""
        self.drafter.forget(run)

    def note(self, rows: int, reading: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        self._cost.note(rows, reading, seconds)

    def _share_out(self, runs: Sequence[tuple[Run, int]], rows: int, reading: int) -> list[tuple[Run, int]]:
        """How many guesses each run gets."""
        chances = [min(self.drafter.chance(run), 0.99) if room > 0 else 0.0 for run, room in runs]
        counts = [0] * len(runs)
        likeliest = [(-chance, place) for place, chance in enumerate(chances) if chance > 0]
        heapq.heapify(likeliest)
        tokens = float(rows - reading)  # what the step is expected to give
        seconds = self._cost.of(rows, reading)
        while likeliest:
            chance, place = -likeliest[0][0], likeliest[0][1]
            longer = self._cost.of(rows + 1, reading) + self.drafter.seconds * (sum(counts) + 1)
            if (tokens + chance) * seconds <= tokens * longer:
                break
            tokens, rows, seconds = tokens + chance, rows + 1, longer
            counts[place] += 1
            if counts[place] < min(runs[place][1], MOST):
                heapq.heapreplace(likeliest, (-chance * chances[place], place))
            else:
                heapq.heappop(likeliest)
        for (run, _), count in zip(runs, counts, strict=True):
            if not count:
                self.drafter.learn(run, 0, 0)
        return [(run, count) for (run, _), count in zip(runs, counts, strict=True)]


class StepCost:
    """What steps of so many rows take, learnt from those that were made; in between and beyond it is guessed.

    A step is believed to be quicker at once and slower only by and by, so that a machine's hiccup does not stick.
    """

    _DOWN, _UP = 0.5, 0.1
    _PER_ROW = 0.04  # of the nearest step: what another row is thought to add, where nothing is known

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}  # rows of steps that read no prompts -> seconds
        self._per_row: float | None = None  # of those that do: there every row counts alike

    def note(self, rows: int, reading: int, seconds: float) -> None:
        """A step of so many rows, `reading` of them of prompts, took so long."""
        if reading:
            self._per_row = self._moved(self._per_row, seconds / rows)
        else:
            self._seen[rows] = self._moved(self._seen.get(rows), seconds)

    def known(self, reading: int) -> bool:
        """Whether anything is known of such steps."""
        return self._per_row is not None if reading else bool(self._seen)

    def of(self, rows: int, reading: int) -> float:
        """Seconds that a step takes; something must be known."""
        if reading:
            return rows * (self._per_row or 0.0)
        below = max((known for known in self._seen if known <= rows), default=0)
        above = min((known for known in self._seen if known >= rows), default=0)
        if not below or not above:
            edge = below or above
            return self._seen[edge] * max(1 + self._PER_ROW * (rows - edge), 0.5)
        share = (rows - below) / (above - below) if above > below else 0.0
        return self._seen[below] + share * max(self._seen[above] - self._seen[below], 0.0)

    def _moved(self, known: float | None, seen: float) -> float:
        if known is None:
            return seen
        return known + (self._DOWN if seen < known else self._UP) * (min(seen, 2 * known) - known)
