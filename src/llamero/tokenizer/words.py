"""The words of texts as sentencepiece's BPE sees them, each counted once: how a corpus of any size fits in memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

SPACE: Final = "▁"  # U+2581, sentencepiece's visible space
LONGEST: Final = 1024  # characters of a word; what is longer is no word but data, and is cut
MOST: Final = 1 << 24  # different words in memory, about 2 GB

_RUNS: Final = re.compile(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+")
_ODD: Final = re.compile(f"{SPACE}|  |^ | $", re.MULTILINE)
_TAB, _NUL = "\t", "\0"


def count_words(texts: Iterable[str], most: int = MOST) -> Counter[str]:
    """How often each word stands in the texts, a word being a run of spaces and what follows them, in one line.

    Each line begins with a space of its own. Tabs become NUL, which sentencepiece knows as a character that is no
    part of a token. When there are more than `most` different words, the rarest are forgotten, so that counts of
    rare words are then lower bounds (Manku and Motwani 2002, "lossy counting").
    """
    plain: Counter[str] = Counter()  # words after one space, which is left out; most are
    odd: Counter[str] = Counter()  # words with all their spaces
    floor = 0
    for text in texts:
        lines, others = _sorted_out(text.replace(_TAB, _NUL))
        plain.update(lines.replace("\n", " ").split(" "))
        for line in others:
            odd.update(_RUNS.findall(SPACE + line.replace(" ", SPACE)))
        while len(plain) + len(odd) > most:
            floor += 1
            plain, odd = _without_rare(plain, floor), _without_rare(odd, floor)
    plain.pop("", None)  # from empty lines
    for word, count in plain.items():
        odd[SPACE + word] += count
    return _cut(odd)


def _sorted_out(text: str) -> tuple[str, list[str]]:
    """The lines whose words are parted by single spaces, as one text, and the others."""
    if not _ODD.search(text):
        return text, []
    lines = text.split("\n")
    others = [line for line in lines if _ODD.search(line)]
    return "\n".join(line for line in lines if not _ODD.search(line)), others


def _without_rare(counts: Counter[str], floor: int) -> Counter[str]:
    return Counter({word: count for word, count in counts.items() if count > floor})


def _cut(counts: Counter[str]) -> Counter[str]:
    """Overlong words in parts."""
    for word in [word for word in counts if len(word) > LONGEST]:
        count = counts.pop(word)
        for at in range(0, len(word), LONGEST):
            counts[word[at : at + LONGEST]] += count
    return counts
