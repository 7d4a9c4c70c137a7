"""How files write tokens: as text, with SentencePiece's visible space or in GPT-2's alphabet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Form, Kind, TokenType
from llamero.tokenizer.merges import Encoder


def token_texts(kind: Kind, encoder: Encoder, types: NDArray[np.uint8]) -> list[str]:
    """Every token as GGUF, tokenizer.json and sentencepiece write it.

    types: (tokens,) of TokenType. Raises TokenizerError for a token that is not UTF-8, which none of them can hold.
    """
    if kind == "bpe":
        return [_text(raw, i) for i, raw in enumerate(encoder.tokens(Form.BYTE_LEVEL))]
    return [
        f"<0x{raw[0]:02X}>" if type_ == TokenType.BYTE else _text(raw, i).replace(" ", "▁")
        for i, (raw, type_) in enumerate(zip(encoder.tokens(Form.RAW), types.tolist(), strict=True))
    ]


def _text(raw: bytes, token: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise TokenizerError(f"token {token} is not UTF-8, so no such file can hold it: {raw[:40]!r}") from None
