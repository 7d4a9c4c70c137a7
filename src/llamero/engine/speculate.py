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

from llamero.engine.cost import StepCost
from llamero.engine.drafter import Drafter
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

    def judge(self, run: Run, trial: Trial) -> None:
        """All guesses of a trial that were looked at have been."""
        run.drafted_tokens += len(trial.guesses)
        run.accepted_tokens += trial.right
        self.drafter.learn(run, len(trial.guesses), trial.right)

    def guess(
        self, runs: Sequence[tuple[Run, int]], cost: StepCost, rows: int, reading: int = 0
    ) -> dict[Run, list[int]]:
        """Tokens to read after those of runs that write one each, at most as many as each has room for.

        cost: of steps. rows: of this one without guesses, of which `reading` belong to prompts.
        """
        if not cost.known(reading):
            return {}
        wanted = [(run, count) for run, count in self._share_out(runs, cost, rows, reading) if count]
        drafts = self.drafter.draft(wanted) if wanted else []
        return {run: draft for (run, _), draft in zip(wanted, drafts, strict=True) if draft}

    def forget(self, run: Run) -> None:
        """A run has ended."""
        self.drafter.forget(run)

    def _share_out(
        self, runs: Sequence[tuple[Run, int]], cost: StepCost, rows: int, reading: int
    ) -> list[tuple[Run, int]]:
        """How many guesses each run gets: the likeliest ones, as many as give the most tokens per second."""
        chances = [min(self.drafter.chance(run), 0.99) if room > 0 else 0.0 for run, room in runs]
        likeliest = [(-chance, place, 1) for place, chance in enumerate(chances) if chance > 0]
        heapq.heapify(likeliest)
        tokens = float(rows - reading)  # that the step is expected to give
        seconds = cost.curve(rows, MOST * len(likeliest), reading)
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
