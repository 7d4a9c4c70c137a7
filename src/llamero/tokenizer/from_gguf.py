"""A tokenizer from the metadata of a GGUF file. Knows GGUF's keys; opens no file and decodes no token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llamero.errors import TokenizerError, UnsupportedError
from llamero.formats.strings import StringArray
from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType
from llamero.tokenizer.patterns import guess

_G: Final = "tokenizer.ggml."
BYTE_FALLBACK: Final = "byte_fallback"
"""A key of our own: without it, a SentencePiece vocabulary that lacks byte tokens is taken for a broken one."""
_MODELS: Final = {"llama": "SentencePiece", "gpt2": "byte-level BPE"}
_MOST_GUESSED: Final = 4096  # special tokens stand at the end; so many are looked at to tell old files apart


def define_gguf(metadata: Mapping[str, Any]) -> Definition:
    """Raises TokenizerError, naming the key, for broken metadata, UnsupportedError for a kind that no Llama uses."""
    model = metadata.get(_G + "model")
    if not isinstance(model, str) or model not in _MODELS:
        raise UnsupportedError(
            f"{_G}model is {model!r}; Llamas use {' or '.join(f'{key!r} ({what})' for key, what in _MODELS.items())}"
        )
    tokens = _strings(metadata, "tokens")
    spm = model == "llama"
    ids = _ids(metadata, tokens, spm)
    rules = Rules(
        kind="spm" if spm else "bpe",
        pre="default" if spm else _pre(metadata, tokens),
        add_space_prefix=_flag(metadata, "add_space_prefix") is not False,
        remove_extra_whitespaces=spm and _flag(metadata, "remove_extra_whitespaces") is True,
        byte_fallback=_flag(metadata, BYTE_FALLBACK) is not False,
        ids=ids,
        add_bos=_flag(metadata, "add_bos_token"),
        chat_template=_text(metadata, "tokenizer.chat_template"),
    )
    return Definition(
        rules=rules,
        form=Form.SENTENCEPIECE if spm else Form.BYTE_LEVEL,
        tokens=tokens,
        types=_types(metadata, tokens, ids, spm),
        scores=_scores(metadata) if spm else None,
        merges=None if spm else _strings(metadata, "merges"),
    )


def _strings(metadata: Mapping[str, Any], key: str) -> Strings:
    value = metadata.get(_G + key)
    if isinstance(value, StringArray):
        spans, buffer = value.raw()
        return Strings(buffer, spans[:, 0].astype(np.uint64), spans[:, 1].astype(np.uint64))
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return Strings.of(item.encode("utf-8", "surrogatepass") for item in value)
    raise TokenizerError(f"{_G}{key} must be an array of strings, {_described(value)}")


def _numbers(metadata: Mapping[str, Any], key: str, kinds: str) -> NDArray[Any]:
    """An array whose numpy dtype is of one of these kinds ("iu" for whole numbers)."""
    value = metadata.get(_G + key)
    if isinstance(value, (list, tuple)) and all(isinstance(item, (int, float)) for item in value):
        value = np.array(value)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in kinds:
        return value
    raise TokenizerError(f"{_G}{key} must be an array of numbers, {_described(value)}")


def _scores(metadata: Mapping[str, Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a score too large for float32 is the best or the worst of all
        return _numbers(metadata, "scores", "iuf").astype(np.float32)


def _types(metadata: Mapping[str, Any], tokens: Strings, ids: Ids, spm: bool) -> NDArray[np.uint8]:
    """The type of each token; an old file without them has byte tokens by their look, control tokens by their role."""
    if metadata.get(_G + "token_type") is not None:
        types = _numbers(metadata, "token_type", "iu")
        if types.size and (types.min() < 0 or types.max() > 255):
            raise TokenizerError(f"{_G}token_type holds a number that is no type")
        return types.astype(np.uint8)
    types = np.full(len(tokens), TokenType.NORMAL, np.uint8)
    sizes = tokens.ends - tokens.starts
    for i in np.flatnonzero(sizes == 6).tolist() if spm else ():
        raw = tokens.at(i)
        if raw.startswith(b"<0x") and raw.endswith(b">"):
            types[i] = TokenType.BYTE
    for role in (ids.bos, ids.eos, ids.eot, ids.eom):
        if role is not None:
            types[role] = TokenType.CONTROL
    if spm and ids.unk is not None:
        types[ids.unk] = TokenType.UNKNOWN
    return types


def _ids(metadata: Mapping[str, Any], tokens: Strings, spm: bool) -> Ids:
    """Where a SentencePiece file is silent, the first three tokens have the roles that their names tell."""
    usual = {"unknown": (0, b"<unk>"), "bos": (1, b"<s>"), "eos": (2, b"</s>")}

    def role(name: str) -> int | None:
        value = metadata.get(f"{_G}{name}_token_id")
        if value is None:
            token, text = usual.get(name, (0, b""))
            return token if spm and token < len(tokens) and tokens.at(token) == text else None
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return int(value)
        raise TokenizerError(f"{_G}{name}_token_id must be a whole number, not {value!r}")

    ids = Ids(
        bos=role("bos"), eos=role("eos"), unk=role("unknown"), pad=role("padding"), eot=role("eot"), eom=role("eom")
    )
    ids.check(len(tokens))
    return ids


def _pre(metadata: Mapping[str, Any], tokens: Strings) -> str:
    """The split pattern's name. Files made before GGUF named it, or by tools that did not know it, say nothing or
    "default": there the special tokens tell the family, where llama.cpp would fall back to a pattern that fits none."""
    pre = _text(metadata, _G + "pre")
    if pre not in (None, "", "default"):
        return str(pre)
    last = range(max(0, len(tokens) - _MOST_GUESSED), len(tokens))
    return guess(frozenset(tokens.at(i).decode("utf-8", "replace") for i in last))


def _flag(metadata: Mapping[str, Any], key: str) -> bool | None:
    value = metadata.get(_G + key)
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    raise TokenizerError(f"{_G}{key} must be true or false, not {value!r}")


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    raise TokenizerError(f"{key} must be a string, not {type(value).__name__}")


def _described(value: object) -> str:
    return "but the file has none" if value is None else f"not {type(value).__name__}"
