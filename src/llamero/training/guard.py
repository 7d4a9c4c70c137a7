"""The guard of a run: says which steps would harm the parameters, from what the steps before them looked like."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from llamero.errors import FormatError, SettingError

_DEVIATION = 1.4826  # standard deviations of a normal distribution in one median deviation
_LEAST = 0.01  # of the median: the smallest deviation believed, where steps hardly differ
_BELIEVED = 3  # steps in a row whose gradients are too large: more are no spike but how it is now


@dataclass(frozen=True)
class Limits:
    """What is too far from the last `window` steps.

    spread: deviations of the loss above its median. surge: by how much the norm of the gradients exceeds its median.
    0 is no limit; a step whose loss or gradients are not finite is always too far. patience: skipped steps in a row
    that end a run.
    """

    spread: float = 8.0
    surge: float = 10.0
    window: int = 128
    patience: int = 10

    def __post_init__(self) -> None:
        if not (self.spread >= 0 and self.surge >= 0) or self.window < 8 or self.patience < 1:
            raise SettingError(
                f"the guard needs spread ({self.spread}) and surge ({self.surge}) of at least 0, a window "
                f"({self.window}) of at least 8 steps and patience ({self.patience}) of at least 1"
            )


class Guard:
    """Judges each step by its loss and the norm of its gradients, before the parameters are changed.

    A batch that harms shows in its loss. Large gradients alone are clipped and may be a model that begins to
    understand something, after which they stay large: three such steps in a row are skipped, no more. Deviations are
    robust (from the median, by the median), so that a spike does not hide the next one. What it knows is `state`, and
    nothing else: saved and restored with a run, it judges on as if there had been no stop.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.skips = 0  # in a row, up to now
        self._losses: deque[float] = deque(maxlen=limits.window)
        self._norms: deque[float] = deque(maxlen=limits.window)

    def judge(self, loss: float, norm: float) -> str:
        """Why this step is to be skipped, or "" if it may change the parameters.

        Skipped steps are remembered too unless they are not finite.
        """
        reason = self._reason(loss, norm)
        if math.isfinite(loss) and math.isfinite(norm):
            self._losses.append(loss)
            self._norms.append(norm)
        self.skips = self.skips + 1 if reason else 0
        return reason

    def _reason(self, loss: float, norm: float) -> str:
        limits = self.limits
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"loss {loss} and gradient norm {norm} are not finite"
        if len(self._losses) < limits.window // 2:
            return ""
        middle = median(self._losses)
        deviation = max(_DEVIATION * median(abs(each - middle) for each in self._losses), _LEAST * abs(middle))
        if limits.spread and loss > middle + limits.spread * deviation:
            return f"loss {loss:.4g} is {(loss - middle) / deviation:.1f} deviations above the usual {middle:.4g}"
        usual = median(self._norms)
        if limits.surge and norm > limits.surge * usual and self.skips < _BELIEVED:
            return f"gradient norm {norm:.4g} is {norm / usual:.1f} times the usual {usual:.4g}"
        return ""

    @property
    def state(self) -> list[list[float]]:
        """All it remembers: [[skips in a row], losses, norms]."""
        return [[float(self.skips)], list(self._losses), list(self._norms)]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Go on from a `state`; from an empty one, as from the beginning.

        Raises FormatError for anything else.
        """
        try:
            (skips,), losses, norms = state or ((0.0,), (), ())
            self.skips = int(skips)
            self._losses = deque((float(loss) for loss in losses), self.limits.window)
            self._norms = deque((float(norm) for norm in norms), self.limits.window)
        except (TypeError, ValueError) as error:
            raise FormatError(f"a checkpoint's memory of past steps is broken: {error}") from error
