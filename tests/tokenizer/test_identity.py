"""Tests of tokenizer/identity.py: the same vocabulary has one hash in every file, another vocabulary another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import llamero
from llamero.errors import TokenizerError
from llamero.tokenizer.definition import Ids, TokenType
from llamero.tokenizer.learn import learn
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer

TEXTS = ["a llama sang to the moon", "the moon sang to a llama and the dog"] * 50


def test_one_vocabulary_in_several_files(from_shelf):
    names = ("llama2_tokenizer.model", "llama2_tokenizer.bin", "ggml-vocab-llama-spm.gguf")
    assert len({from_shelf(name).fingerprint() for name in names}) == 1


def test_a_learnt_vocabulary_keeps_its_hash_in_gguf():
    learnt = Tokenizer(learn(TEXTS, 280))
    assert load_tokenizer(learnt.to_gguf()).fingerprint() == learnt.fingerprint()


def test_whatever_changes_ids_changes_the_hash():
    definition = learn(TEXTS, 280)
    rules = definition.rules
    others = [learn(TEXTS, 281), learn(TEXTS[1:2] * 9, 272)]
    others += [
        replace(definition, rules=replace(rules, **change))
        for change in ({"add_bos": False}, {"pre": "gpt-2"}, {"ignore_merges": False})
    ]
    assert len({Tokenizer(each).fingerprint() for each in (definition, *others)}) == 1 + len(others)
    plain = replace(definition, rules=replace(rules, chat_template="{{ messages }}"))
    assert Tokenizer(plain).fingerprint() == Tokenizer(definition).fingerprint()


def test_a_document_is_begun_and_ended():
    tokenizer = load_tokenizer(Path(llamero.__file__).parent / "embedded" / "llama-stories.gguf")
    ids = tokenizer.encode_document("A <|eot_id|> llama").tolist()
    assert ids == [tokenizer.bos_id, *tokenizer.encode("A <|eot_id|> llama", bos=False), tokenizer.end_id]
    assert tokenizer.special_tokens["<|end_of_text|>"] == tokenizer.end_id
    definition = learn(TEXTS, 280)
    nameless = np.full_like(definition.types, TokenType.NORMAL)
    endless = Tokenizer(replace(definition, types=nameless, rules=replace(definition.rules, ids=Ids())))
    with pytest.raises(TokenizerError, match="ends a text"):
        endless.encode_document("x")
