"""Which characters of a text each of its tokens is of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def places(text: str, spellings: Sequence[bytes]) -> list[tuple[int, int]]:
    """(first character, one after the last) of each token, by the bytes of each.

    A token that is part of a character has that character. A space that the vocabulary puts before a text is nowhere
    in it: a token of nothing else has no characters. Where a vocabulary spells a text otherwise than it is written,
    nothing is known within it: each token has the whole text.
    """
    data, written = text.encode(), b"".join(spellings)
    if not written.endswith(data):
        return [(0, len(text))] * len(spellings)
    before = len(written) - len(data)
    begins = [*accumulate((byte & 0xC0 != 0x80 for byte in data), initial=0)]  # characters begun before each byte
    found = []
    at = -before
    for spelling in spellings:
        start, at = max(0, at), at + len(spelling)
        end = max(0, at)
        inside = start < end and data[start] & 0xC0 == 0x80
        found.append((begins[start] - inside, begins[end]))
    return found
