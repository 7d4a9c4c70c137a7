"""The merge algorithms as one would explain them: slow, short, and the measure of the native ones in the tests.

Knows pieces of text only; how a text is cut into pieces and what a special token is, it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

Rank = Callable[[bytes, bytes], float | None]
"""How early two neighbours join (lower is earlier); None: they do not."""


def merge(symbols: list[bytes], rank: Rank) -> list[bytes]:
    """Join the two neighbours of lowest rank, the leftmost of equals, until no two join (Sennrich et al. 2016, 3.2)."""
    symbols = list(symbols)
    while True:
        ranked = [(found, i) for i, pair in enumerate(pairwise(symbols)) if (found := rank(*pair)) is not None]
        if not ranked:
            return symbols
        _, i = min(ranked)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def by_pair(merges: list[tuple[bytes, bytes]]) -> Rank:
    """Rank by place in a list of merges, as GGUF and tokenizer.json give them."""
    places = {pair: place for place, pair in reversed(list(enumerate(merges)))}
    return lambda left, right: places.get((left, right))


def by_id(ids: Mapping[bytes, int]) -> Rank:
    """Rank by the id of what the two become, as tiktoken does."""
    return lambda left, right: ids.get(left + right)


def by_score(scores: Mapping[bytes, float]) -> Rank:
    """Rank by the score of what the two become, highest first, as sentencepiece does."""
    return lambda left, right: -scores[left + right] if left + right in scores else None


def encode_bpe(piece: bytes, ids: Mapping[bytes, int], rank: Rank, *, whole: bool) -> list[int]:
    """Ids of one piece of byte-level BPE. `whole`: a piece that is itself a token is taken as it is."""
    if whole and piece in ids:
        return [ids[piece]]
    return [ids[symbol] for symbol in merge([bytes([byte]) for byte in piece], rank)]


def encode_spm(text: str, ids: Mapping[bytes, int], rank: Rank, byte_ids: list[int]) -> list[int]:
    """Ids of a text of SentencePiece BPE, its spaces as in the tokens; strange characters become their bytes."""
    symbols = merge([char.encode() for char in text], rank)
    return [token for symbol in symbols for token in _spelt(symbol, ids, byte_ids)]


def _spelt(symbol: bytes, ids: Mapping[bytes, int], byte_ids: list[int]) -> list[int]:
    return [ids[symbol]] if symbol in ids else [byte_ids[byte] for byte in symbol]


def learn_merges(pieces: Mapping[bytes, int], prefers: Callable[[bytes, bytes], Any]) -> Iterator[tuple[bytes, bytes]]:
    """The merges of pieces (with how often each came), one after another: ever the most frequent pair of neighbours.

    `prefers`: among equally frequent pairs the one of which it gives the most (Sennrich et al. 2016, algorithm 1).
    """
    words = [([bytes([byte]) for byte in piece], count) for piece, count in pieces.items()]
    while True:
        found = Counter[tuple[bytes, bytes]]()
        for symbols, count in words:
            for pair in pairwise(symbols):
                found[pair] += count
        if not found:
            return
        best = max(found, key=lambda pair: (found[pair], prefers(*pair)))
        yield best
        for symbols, _ in words:
            _join(symbols, best)


def _join(symbols: list[bytes], pair: tuple[bytes, bytes]) -> None:
    """Join every place where the pair stands, from the left."""
    place = 0
    while place < len(symbols) - 1:
        if (symbols[place], symbols[place + 1]) == pair:
            symbols[place : place + 2] = [pair[0] + pair[1]]
        place += 1
