"""What happens when tokens do not fit the context: three policies, all of them said aloud.

    error     (the default) a prompt that leaves no room for an answer raises ContextOverflow, before any work;
              an answer that fills the context ends there, with finish_reason "length"
    truncate  the oldest tokens of the prompt, after the first `keep`, are dropped until the answer has its room
    shift     as truncate for a prompt that leaves no room; and whenever the answer fills the context, the older half
              of what follows the first `keep` tokens is dropped and the rest is read again, so that what comes next
              is exactly what a fresh prompt of the remaining tokens would give

What was dropped is counted and reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from llamero.errors import ContextOverflow, SettingError, nearest

Overflow = Literal["error", "truncate", "shift"]


def check_policy(policy: str) -> None:
    """Raise SettingError unless it is one of the three."""
    if policy not in get_args(Overflow):
        raise SettingError(f"overflow policy {policy!r} is unknown: {nearest(policy, get_args(Overflow))}")


def fit(prompt: Sequence[int], context: int, policy: Overflow, keep: int, max_tokens: int | None) -> list[int]:
    """The prompt as it will be read: whole, or shortened as the policy says.

    Raises ContextOverflow when it does not fit and may not, or cannot, be shortened.
    """
    if policy == "error":
        if len(prompt) >= context:
            raise _overflow(
                prompt,
                context,
                "shorten it, load the model with a larger context, or choose the overflow policy 'truncate' or 'shift'",
            )
        return list(prompt)
    keep = min(keep, len(prompt))
    loose = context - keep  # room for what may be dropped, and for the answer
    wanted = min(1 if policy == "shift" else max_tokens or 1, max(1, loose // 2))
    fits = len(prompt) + wanted <= context
    if loose < 2 and not (fits and policy == "truncate"):
        raise _overflow(prompt, context, f"the first {keep} are to be kept, which leaves no room; keep fewer")
    if fits:
        return list(prompt)
    room = loose // 2 if policy == "shift" else min(max_tokens or loose // 4, loose // 2)
    return shorten(prompt, keep, len(prompt) + max(room, 1) - context)


def shift(ids: Sequence[int], context: int, keep: int) -> list[int]:
    """A full sequence without the older half of what follows its kept head."""
    return shorten(ids, keep, max(1, (context - keep) // 2))


def shorten(ids: Sequence[int], keep: int, drop: int) -> list[int]:
    """The ids without `drop` of them after the first `keep`."""
    return [*ids[:keep], *ids[keep + drop :]]


def _overflow(prompt: Sequence[int], context: int, advice: str) -> ContextOverflow:
    return ContextOverflow(
        f"the prompt has {len(prompt)} tokens, and the context of {context} must also hold the answer: {advice}",
        tokens=len(prompt),
        context=context,
    )
