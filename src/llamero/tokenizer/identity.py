"""What a tokenizer is known by: a hash of all that decides the ids of a text, whatever file it came from."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from llamero.tokenizer.definition import Form, Rules
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.patterns import takes_whole_pieces


def identity(
    rules: Rules,
    encoder: Encoder,
    types: NDArray[np.uint8],
    scores: NDArray[np.float32] | None,
    begin: int | None,
    end: int | None,
) -> str:
    """SHA-256 in hex of the rules, the pieces, their types, and their scores or merges; not of the chat template.

    begin, end: the ids that a document begins and ends with.
    """
    spm = rules.kind == "spm"
    whole = takes_whole_pieces(rules.pre) if rules.ignore_merges is None else rules.ignore_merges
    options = (
        [rules.add_space_prefix, rules.remove_extra_whitespaces, rules.byte_fallback] if spm else [rules.pre, whole]
    )
    digest = hashlib.sha256(json.dumps([rules.kind, begin, end, *options]).encode())
    for piece in encoder.tokens(Form.RAW):
        digest.update(len(piece).to_bytes(4, "little") + piece)
    digest.update(types.astype(np.uint8).tobytes())
    joins = encoder.merges().astype("<i4") if scores is None else scores.astype("<f4")
    digest.update(np.ascontiguousarray(joins).tobytes())
    return digest.hexdigest()
