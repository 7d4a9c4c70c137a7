"""A sentencepiece `tokenizer.model`: a protocol buffer of pieces and options (sentencepiece_model.proto).

Knows the options of Llama's models and refuses the others by name: unigram models, and text normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llamero.errors import TokenizerError, UnsupportedError
from llamero.tokenizer.definition import Definition, Form, Ids, Rules, Strings, TokenType
from llamero.tokenizer.protobuf import as_bytes, as_float, as_int, fields

_WHERE: Final = "tokenizer.model"
_MODELS: Final = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_BYTE: Final = int(TokenType.BYTE)
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto


@dataclass
class _Trainer:
    """Fields of TrainerSpec, with the defaults that sentencepiece gives them."""

    model: int = 1
    suffix: bool = False
    byte_fallback: bool = False
    unk: int = 0
    bos: int = 1
    eos: int = 2
    pad: int = -1


@dataclass
class _Normalizer:
    """Fields of NormalizerSpec, with the defaults that sentencepiece gives them."""

    charsmap: bool = False
    prefix: bool = True
    collapse: bool = True
    escape: bool = True


def define_sentencepiece(data: bytes) -> Definition:
    """Raises TokenizerError for data that are no such model, UnsupportedError for options that no Llama uses."""
    pieces: list[tuple[bytes, float, int]] = []
    trainer, normalizer = _Trainer(), _Normalizer()
    for number, wire, value in fields(data, _WHERE):
        if number == _PIECE:
            pieces.append(_piece(as_bytes(value, wire, f"{_WHERE}: piece {len(pieces)}"), len(pieces)))
        elif number == _TRAINER:
            _read_trainer(as_bytes(value, wire, f"{_WHERE}: trainer_spec"), trainer)
        elif number == _NORMALIZER:
            _read_normalizer(as_bytes(value, wire, f"{_WHERE}: normalizer_spec"), normalizer)
    _check(len(pieces), trainer, normalizer)
    rules = Rules(
        kind="spm",
        add_space_prefix=normalizer.prefix,
        remove_extra_whitespaces=normalizer.collapse,
        byte_fallback=trainer.byte_fallback or any(kind == _BYTE for _, _, kind in pieces),
        ids=Ids(bos=_role(trainer.bos), eos=_role(trainer.eos), pad=_role(trainer.pad), unk=_role(trainer.unk)),
        add_bos=trainer.bos >= 0,
    )
    return Definition(
        rules=rules,
        form=Form.SENTENCEPIECE,
        tokens=Strings.of(piece for piece, _, _ in pieces),
        types=np.array([kind for _, _, kind in pieces], np.uint8),
        scores=np.array([score for _, score, _ in pieces], np.float32),
    )


def _piece(data: bytes, index: int) -> tuple[bytes, float, int]:
    where = f"{_WHERE}: piece {index}"
    text, score, kind = b"", 0.0, int(TokenType.NORMAL)
    for number, wire, value in fields(data, where):
        if number == 1:
            text = as_bytes(value, wire, f"{where}: text")
        elif number == 2:
            score = as_float(value, wire, f"{where}: score")
        elif number == 3:
            kind = as_int(value, wire, f"{where}: type")
            if not 1 <= kind <= 6:
                raise TokenizerError(f"{where} has the unknown type {kind}")
    return text, score, kind


def _read_trainer(data: bytes, spec: _Trainer) -> None:
    names = {3: "model", 24: "suffix", 35: "byte_fallback", 40: "unk", 41: "bos", 42: "eos", 43: "pad"}
    for number, wire, value in fields(data, f"{_WHERE}: trainer_spec"):
        if number in names:
            found = as_int(value, wire, f"{_WHERE}: trainer_spec field {number}")
            setattr(spec, names[number], bool(found) if number in (24, 35) else found)


def _read_normalizer(data: bytes, spec: _Normalizer) -> None:
    names = {3: "prefix", 4: "collapse", 5: "escape"}
    for number, wire, value in fields(data, f"{_WHERE}: normalizer_spec"):
        if number == 2:
            spec.charsmap = len(as_bytes(value, wire, f"{_WHERE}: precompiled_charsmap")) > 0
        elif number in names:
            setattr(spec, names[number], bool(as_int(value, wire, f"{_WHERE}: normalizer_spec field {number}")))


def _check(pieces: int, trainer: _Trainer, normalizer: _Normalizer) -> None:
    if pieces == 0:
        raise TokenizerError(f"{_WHERE} holds no pieces; it is neither sentencepiece's nor tiktoken's")
    if trainer.model != 2:
        kind = _MODELS.get(trainer.model, trainer.model)
        raise UnsupportedError(f"{_WHERE} is a sentencepiece model of type {kind}; Llamas use bpe")
    if normalizer.charsmap:
        raise UnsupportedError(f"{_WHERE} rewrites characters (a charsmap such as nmt_nfkc); Llamas take text as it is")
    if not normalizer.escape or trainer.suffix:
        raise UnsupportedError(f"{_WHERE} marks spaces otherwise than Llama does (escape_whitespaces, suffix)")


def _role(number: int) -> int | None:
    return number if number >= 0 else None
