"""llama2.c's `tokenizer.bin`: a SentencePiece vocabulary as scores and strings (run.c, build_tokenizer).

    int32 longest token; then per token: float32 score, int32 length, that many bytes (a plain space for U+2581)

What a token is for the file does not say: 0, 1, 2 are unknown, BOS and EOS, and <0x0A> is a byte.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType

_BYTE = re.compile(rb"<0x[0-9A-F]{2}>")
_NAMES = (b"<unk>", b"<s>", b"</s>")
_ENTRY = struct.Struct("<fi")


def read_llama2c(data: bytes) -> Definition:
    """Raises TokenizerError, with the byte, for data that does not follow the layout."""
    if len(data) < 4:
        raise TokenizerError("a llama2.c tokenizer begins with 4 bytes of length; the file has fewer")
    at = 4
    scores: list[float] = []
    tokens: list[bytes] = []
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise TokenizerError(f"llama2.c tokenizer: token {len(tokens)} at byte {at} is cut off; fetch it again")
        score, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if not 0 <= length <= len(data) - at:
            raise TokenizerError(f"llama2.c tokenizer: token {len(tokens)} before byte {at} claims {length} bytes")
        scores.append(score)
        tokens.append(data[at : at + length])
        at += length
    if len(tokens) < len(_NAMES) + 1:
        raise TokenizerError(f"llama2.c tokenizer: {len(tokens)} tokens are too few")
    types = np.array([TokenType.BYTE if _BYTE.fullmatch(t) else TokenType.NORMAL for t in tokens], np.uint8)
    types[:3] = TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL
    tokens[:3] = _NAMES
    return Definition(
        rules=Rules(kind="spm", ids=Ids(bos=1, eos=2, unk=0), add_bos=True),
        form=Form.SENTENCEPIECE,
        tokens=Strings.of(tokens),
        types=types,
        scores=np.array(scores, np.float32),
    )
