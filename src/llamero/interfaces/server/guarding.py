"""Llama Guard's verdicts: its categories read from its own template, its answer, and how sure it is.

The numbers of categories differ between versions (in Guard 2, S5 is specialised advice; in Guard 3, defamation), so
they are taken from the list of names in the template, never from a table. Source: Inan et al. 2023, section 2: the
score is the probability of "unsafe" as the first token of the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llamero.errors import TemplateError
from llamero.interfaces.server.answer import Event, Spelt, Text

_LISTED = re.compile(r"^\s*([SO]\d{1,2})\s*:\s*([^\n\\]{3,80}?)\.?\s*$", re.MULTILINE)
_CODE = re.compile(r"\b[SO]\d{1,2}\b")
_MARK = "UNSAFE CONTENT CATEGORIES"


@dataclass(frozen=True)
class Verdict:
    """codes: the categories that were named, such as S1. score: the probability of "unsafe", 0 to 1."""

    unsafe: bool
    codes: tuple[str, ...]
    score: float


def guard_categories(template: str, name: str) -> dict[str, str]:
    """The names of a Guard's categories by their codes. Raises TemplateError where a template is no Guard's."""
    found = dict(_LISTED.findall(template.replace("\\n", "\n")))
    if _MARK not in template or not found:
        raise TemplateError(
            f"the model {name!r} is no Llama Guard (its chat template lists no unsafe content categories): moderations "
            "need one, such as Llama-Guard-3-1B"
        )
    return found


def verdict(events: Sequence[Event], index: int, categories: Mapping[str, str]) -> Verdict:
    """What the answer `index` says."""
    texts = [event for event in events if isinstance(event, Text) and event.index == index]
    words = "".join(text.text for text in texts).strip()
    tokens = [token for text in texts for token in text.logprobs]
    unsafe = words.startswith("unsafe")
    codes = tuple(dict.fromkeys(code for code in _CODE.findall(words) if code in categories)) if unsafe else ()
    first = next((token for token in tokens if token.spelling.strip()), None)
    return Verdict(unsafe, codes, _unsafe(first) if first else float(unsafe))


def _unsafe(token: Spelt) -> float:
    """The probability of all beginnings of "unsafe" in the place of a token, as far as they are told."""
    told = {each.id: each for each in (*token.top, token)}.values()
    return min(1.0, sum(math.exp(each.logprob) for each in told if each.logprob is not None and _begins(each.spelling)))


def _begins(spelling: bytes) -> bool:
    word = spelling.strip()
    return bool(word) and b"unsafe".startswith(word)
