"""A tokenizer as sentencepiece's `tokenizer.model` (sentencepiece_model.proto): the reverse of from_sentencepiece.py.

Pieces, scores and types are all that encoding needs; of the options those are written that loaders look at, and
those with which Llama's vocabulary was learnt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Rules, TokenType
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.protobuf import field
from llamero.tokenizer.spelling import token_texts

_BPE = 2  # TrainerSpec.ModelType
_UNKNOWN_SHOWN = " ⁇ "  # what decoding makes of the unknown token (sentencepiece's default)


def write_sentencepiece(
    rules: Rules, encoder: Encoder, types: NDArray[np.uint8], scores: NDArray[np.float32] | None
) -> bytes:
    """The file's bytes. Raises TokenizerError for a byte-level vocabulary, and for one without an unknown token."""
    if scores is None:
        raise TokenizerError("a byte-level vocabulary has no scores, as sentencepiece's have; write tokenizer.json")
    if np.count_nonzero(types == TokenType.UNKNOWN) != 1:
        raise TokenizerError("sentencepiece wants exactly one unknown token, and this vocabulary has none or several")
    pieces = token_texts("spm", encoder, types)
    model = [
        field(1, field(1, piece) + field(2, score) + (field(3, kind) if kind != TokenType.NORMAL else b""))
        for piece, score, kind in zip(pieces, scores.tolist(), types.tolist(), strict=True)
    ]
    return b"".join([*model, field(2, _trainer(rules, pieces, types)), field(3, _normalizer(rules))])


def _trainer(rules: Rules, pieces: list[str], types: NDArray[np.uint8]) -> bytes:
    ids = rules.ids
    unk = int(np.flatnonzero(types == TokenType.UNKNOWN)[0])
    roles = [("unk", 40, 45, unk), ("bos", 41, 46, ids.bos), ("eos", 42, 47, ids.eos), ("pad", 43, 48, ids.pad)]
    options = [field(3, _BPE), field(4, len(pieces)), field(24, 0), field(25, 1), field(26, 1)]
    options += [field(35, int(rules.byte_fallback)), field(44, _UNKNOWN_SHOWN)]
    options += [field(number, -1 if token is None else token) for _, number, _, token in roles]
    options += [field(number, f"<{name}>" if token is None else pieces[token]) for name, _, number, token in roles]
    return b"".join(options)


def _normalizer(rules: Rules) -> bytes:
    collapse, prefix = int(rules.remove_extra_whitespaces), int(rules.add_space_prefix)
    return field(1, "identity") + field(2, b"") + field(3, prefix) + field(4, collapse) + field(5, 1)
