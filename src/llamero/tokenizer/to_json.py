"""A tokenizer as Hugging Face has it, `tokenizer.json` and `tokenizer_config.json`: the reverse of from_json.py.

Special tokens stand under `added_tokens`. Whoever loads the file finds them in any text by default, which ours does
only on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamero.errors import UnsupportedError
from llamero.tokenizer.definition import Rules, TokenType
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.patterns import expression_of, takes_whole_pieces
from llamero.tokenizer.spelling import token_texts

_SPACE = "▁"  # U+2581
_OUTSIDE = (TokenType.CONTROL, TokenType.USER, TokenType.UNKNOWN)


def write_json(
    rules: Rules,
    encoder: Encoder,
    types: NDArray[np.uint8],
    scores: NDArray[np.float32] | None,
    bos: int | None,
) -> dict[str, Any]:
    """`tokenizer.json` as an object. `scores`: (tokens,), spm only. `bos`: the token before every text, if any.

    Raises UnsupportedError for SentencePiece options that the format has no form for.
    """
    spm = rules.kind == "spm"
    if spm and (rules.remove_extra_whitespaces or not rules.byte_fallback):
        raise UnsupportedError(
            "tokenizer.json has no form for SentencePiece's remove_extra_whitespaces and for vocabularies without bytes"
        )
    texts = token_texts(rules.kind, encoder, types)
    outside = np.isin(types, _OUTSIDE).tolist()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i} | added(texts[i], types[i]) for i, apart in enumerate(outside) if apart],
        "normalizer": _normalizer(rules) if spm else None,
        "pre_tokenizer": None if spm else _pre_tokenizer(rules.pre),
        "post_processor": None if bos is None else _post_processor(texts[bos], bos),
        "decoder": _spm_decoder(rules) if spm else _byte_level(),
        "model": _model(rules, _merges(encoder, texts, scores), texts, [spm or not apart for apart in outside]),
    }


def write_config(
    rules: Rules, encoder: Encoder, types: NDArray[np.uint8], roles: Mapping[str, int | None], *, add_bos: bool
) -> dict[str, Any]:
    """`tokenizer_config.json` as an object. `roles`: "bos", "eos", "unk", "pad" -> id."""
    texts = token_texts(rules.kind, encoder, types)
    outside = np.flatnonzero(np.isin(types, _OUTSIDE)).tolist()
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "add_bos_token": add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "added_tokens_decoder": {str(i): added(texts[i], types[i]) for i in outside},
    }
    config |= {f"{role}_token": texts[token] for role, token in roles.items() if token is not None}
    if rules.chat_template is not None:
        config["chat_template"] = rules.chat_template
    return config


def added(text: str, kind: int) -> dict[str, Any]:
    """A token outside the vocabulary, as both files describe it."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": text, **plain, "special": int(kind) != TokenType.USER}


def _merges(encoder: Encoder, texts: list[str], scores: NDArray[np.float32] | None) -> list[list[str]]:
    """Best first; those that make the same token stand side by side, also where tokens have the same score."""
    merges = [[texts[left], texts[right]] for left, right in encoder.merges().tolist()]
    if scores is None:
        return merges
    ids, best = {text: i for i, text in enumerate(texts)}, scores.tolist()
    return sorted(merges, key=lambda pair: (-best[joined := ids[pair[0] + pair[1]]], joined))


def _model(rules: Rules, merges: list[list[str]], texts: list[str], inside: list[bool]) -> dict[str, Any]:
    spm = rules.kind == "spm"
    whole = takes_whole_pieces(rules.pre) if rules.ignore_merges is None else rules.ignore_merges
    unk = rules.ids.unk
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": texts[unk] if spm and unk is not None else None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": spm,
        "byte_fallback": spm,
        "ignore_merges": not spm and whole,
        "vocab": {text: i for i, (text, kept) in enumerate(zip(texts, inside, strict=True)) if kept},
        "merges": merges,
    }


def _normalizer(rules: Rules) -> dict[str, Any]:
    visible = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prefix = [{"type": "Prepend", "prepend": _SPACE}] if rules.add_space_prefix else []
    return {"type": "Sequence", "normalizers": [*prefix, visible]}


def _spm_decoder(rules: Rules) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if rules.add_space_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _pre_tokenizer(pre: str) -> dict[str, Any]:
    cut = {"type": "Split", "pattern": {"Regex": expression_of(pre)}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, _byte_level()]}


def _byte_level() -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _post_processor(text: str, token: int) -> dict[str, Any]:
    begin = {"SpecialToken": {"id": text, "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, {"SpecialToken": {"id": text, "type_id": 1}}, second],
        "special_tokens": {text: {"id": text, "ids": [token], "tokens": [text]}},
    }
