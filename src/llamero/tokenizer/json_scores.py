"""SentencePiece scores won back from the merges that transformers made of them.

SentencePiece joins any two neighbours whose bytes together are a token, best score first. As merges that is: for every
token all its splits in two tokens, side by side, best token first. Merges of that shape give the scores their order
back; others mean another algorithm, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import TokenType

_LONGEST: Final = 256  # characters of a token; trying all its splits takes the square of that


def scores_of(
    vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], types: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """(tokens,): 0 for the token made first, -1 for the next, and so on; tokens that are never made come after them.

    `types`: (tokens,) of TokenType; only normal ones are ever made.
    Raises TokenizerError where the merges are not those of a SentencePiece model.
    """
    normal = frozenset(np.flatnonzero(types == TokenType.NORMAL).tolist())
    made = {token: number for token, number in vocab.items() if number in normal}
    places: dict[str, int] = {}
    last = None
    for left, right in merges:
        joined = left + right
        if joined not in vocab or left not in vocab or right not in vocab:
            raise TokenizerError(f"tokenizer.json: merge {left!r} {right!r} names something that is not a token")
        if joined != last and joined in places:
            raise _not_sentencepiece(f"those that make {joined!r} do not stand side by side")
        if joined in made:
            places.setdefault(joined, len(places))
            last = joined
    _check_complete(made, merges)
    scores = np.full(len(types), -float(len(places)), np.float32)
    for joined, place in places.items():
        scores[made[joined]] = -place
    return scores


def _check_complete(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    given = set(merges)
    for token in vocab:
        if len(token) > _LONGEST:
            raise TokenizerError(f"tokenizer.json: a token is longer than {_LONGEST} characters: {token[:40]!r}...")
        for cut in range(1, len(token)):
            pair = token[:cut], token[cut:]
            if pair[0] in vocab and pair[1] in vocab and pair not in given:
                raise _not_sentencepiece(f"{pair[0]!r} {pair[1]!r}, which would make {token!r}, is missing")


def _not_sentencepiece(why: str) -> TokenizerError:
    return TokenizerError(
        f"tokenizer.json: the merges are not those of a SentencePiece model ({why}); use its tokenizer.model instead"
    )
