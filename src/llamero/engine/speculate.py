"""Speculative decoding: several guessed tokens are read in one step, and as many as turn out right are kept.

The model's own sampler chooses at each position, from the model's logits and with the random numbers it would have used
anyway; a guess is kept exactly when it is what was chosen. So the answer is the one without guessing, whatever the
guesses were (up to the rounding of products of several rows; to the last bit with deterministic operations). That is
less often right than the rule of Leviathan et al. (2023), which keeps a guess with probability min(1, p / q), but a
seed means the same with and without it, and penalties and grammars need no second thoughts.

How many tokens are worth guessing: each makes the step longer, for all who take part, and is used with the probability
that it and all before it are right. So many are guessed, the likeliest first, as give the most tokens per second.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llamero.engine.drafter import Drafter
from llamero.engine.pace import believed
from llamero.engine.request import Run
from llamero.engine.sampling import Logits
from llamero.engine.sequence import Sequence as Tokens

MOST = 16  # tokens guessed at once for one run
_HOPELESS = 0.02  # a guess so unlikely is not worth thinking about


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
        """How many guesses each run gets: the likeliest ones, as many as give the most tokens per second."""
        chances = [min(self.drafter.chance(run), 0.99) if room > 0 else 0.0 for run, room in runs]
        likeliest = [(-chance, place, 1) for place, chance in enumerate(chances) if chance > 0]
        heapq.heapify(likeliest)
        tokens = float(rows - reading)  # that the step is expected to give
        seconds = self._cost.curve(rows, MOST * len(likeliest), reading)
        best, kept, chosen = tokens / seconds[0], 0, list[int]()
        while likeliest and -likeliest[0][0] > _HOPELESS:
            chance, place, count = likeliest[0]
            tokens -= chance
            chosen.append(place)
            taken = seconds[len(chosen)] + self.drafter.seconds * len(chosen)
            if tokens / taken > best:
                best, kept = tokens / taken, len(chosen)
            if count < min(runs[place][1], MOST):
                heapq.heapreplace(likeliest, (chance * chances[place], place, count + 1))
            else:
                heapq.heappop(likeliest)
        counts = Counter(chosen[:kept])
        for place, (run, _) in enumerate(runs):
            if chances[place] and not counts[place]:
                self.drafter.learn(run, 0, 0)
        return [(run, counts[place]) for place, (run, _) in enumerate(runs)]


class StepCost:
    """What steps of so many rows take, learnt from those that were made; in between and beyond it is guessed.

    A step is believed to be quicker at once and slower only by and by, and what is known of larger steps than those
    that are made fades towards these: so a hiccup does not stick, and what did not pay is tried again one day.
    """

    _DOWN, _UP, _FADE = 0.5, 0.2, 0.998
    _PER_ROW = 0.04  # of the nearest step: what another row is thought to add, where nothing is known

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}  # rows of steps that read no prompts -> seconds
        self._per_row: float | None = None  # of those that do: there every row counts alike

    def note(self, rows: int, reading: int, seconds: float) -> None:
        """A step of so many rows, `reading` of them of prompts, took so long."""
        if reading:
            self._per_row = self._moved(self._per_row, seconds / rows)
        else:
            now = self._moved(self._seen.get(rows), seconds)
            for larger in [known for known in self._seen if known > rows]:
                before = self._seen[larger]
                self._seen[larger] = max(self._FADE * before, min(before, now))
            self._seen[rows] = now

    def known(self, reading: int) -> bool:
        """Whether anything is known of such steps."""
        return self._per_row is not None if reading else bool(self._seen)

    def curve(self, rows: int, more: int, reading: int = 0) -> list[float]:
        """Seconds of steps of `rows` to rows + more rows; something must be known."""
        wanted = np.arange(rows, rows + more + 1)
        if reading:
            return list(wanted * (self._per_row or 0.0))
        known = sorted(self._seen)
        # None takes longer than one of more rows that was quicker: what was seen then was a hiccup, or is long ago.
        seconds = np.minimum.accumulate([self._seen[n] for n in reversed(known)])[::-1]
        found = np.interp(wanted, known, seconds)
        beyond = np.where(wanted > known[-1], wanted - known[-1], np.minimum(wanted - known[0], 0))
        return list(found * np.maximum(1 + self._PER_ROW * beyond, 0.5))

    def _moved(self, known: float | None, seen: float) -> float:
        return believed(known, seen, self._DOWN if known is not None and seen < known else self._UP)
