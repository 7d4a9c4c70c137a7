"""A tokenizer as the metadata of a GGUF file. Knows GGUF's keys; writes no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.tokenizer.definition import Rules
from llamero.tokenizer.from_gguf import BYTE_FALLBACK
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.spelling import token_texts


def write_metadata(
    rules: Rules,
    encoder: Encoder,
    types: NDArray[np.uint8],
    scores: NDArray[np.float32] | None,
    roles: Mapping[str, int | None],
    *,
    add_bos: bool,
) -> dict[str, Any]:
    """`tokenizer.ggml.*` and the chat template. `roles`: GGUF's name of a role -> its id.

    Ranks without merges (tiktoken's) are written as all the merges that they imply.
    Raises TokenizerError for a token that is not UTF-8, which GGUF cannot hold.
    """
    spm = rules.kind == "spm"
    tokens = token_texts(rules.kind, encoder, types)
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "llama" if spm else "gpt2",
        "tokenizer.ggml.pre": "default" if spm else rules.pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types.astype(np.int32),
    }
    if scores is not None:
        metadata["tokenizer.ggml.scores"] = scores.astype(np.float32)
        metadata["tokenizer.ggml.add_space_prefix"] = rules.add_space_prefix
        if not rules.byte_fallback:
            metadata[f"tokenizer.ggml.{BYTE_FALLBACK}"] = False
        if rules.remove_extra_whitespaces:
            metadata["tokenizer.ggml.remove_extra_whitespaces"] = True
    else:
        metadata["tokenizer.ggml.merges"] = [f"{tokens[a]} {tokens[b]}" for a, b in encoder.merges().tolist()]
    metadata |= {f"tokenizer.ggml.{role}_token_id": token for role, token in roles.items() if token is not None}
    metadata["tokenizer.ggml.add_bos_token"] = add_bos
    if rules.chat_template is not None:
        metadata["tokenizer.chat_template"] = rules.chat_template
    return metadata
