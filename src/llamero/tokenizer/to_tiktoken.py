"""A byte-level tokenizer as tiktoken's rank file (Meta's `tokenizer.model`), where ranks are its only rules."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.patterns import takes_whole_pieces


def write_ranks(rules: Rules, encoder: Encoder, types: NDArray[np.uint8]) -> bytes:
    """A line "base64 rank" for each token but the special ones, which belong to the code that loads the file.

    Raises TokenizerError where ranks alone would give other ids: for SentencePiece, for merges that are not all those
    that the order of the tokens implies, and for ordinary tokens after special ones.
    """
    if rules.kind != "bpe":
        raise TokenizerError("a SentencePiece vocabulary has scores instead of ranks; write tokenizer.model")
    ordinary = types == TokenType.NORMAL
    count = int(np.count_nonzero(ordinary))
    if not ordinary[:count].all():
        raise TokenizerError("ordinary tokens stand after special ones, where ranks would give them other ids")
    tokens = encoder.tokens(Form.RAW)
    _check_merges(rules, encoder, tokens, types)
    return b"".join(b"%s %d\n" % (b64encode(token), rank) for rank, token in enumerate(tokens[:count]))


def _check_merges(rules: Rules, encoder: Encoder, tokens: list[bytes], types: NDArray[np.uint8]) -> None:
    whole = takes_whole_pieces(rules.pre) if rules.ignore_merges is None else rules.ignore_merges
    implied = Definition(
        rules=replace(rules, ignore_merges=True), form=Form.RAW, tokens=Strings.of(tokens), types=types
    )
    if not whole or not np.array_equal(Encoder(implied).merges(), encoder.merges()):
        raise TokenizerError(
            "this vocabulary's merges are not all those that its order of tokens implies, so ranks would cut words "
            "otherwise; write tokenizer.json"
        )
