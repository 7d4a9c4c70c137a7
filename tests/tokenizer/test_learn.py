"""Tests of tokenizer/learn.py: the learnt vocabulary beside the library that counted it, and through a file."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from llamero.errors import SettingError, TokenizerError
from llamero.tokenizer import tokenizer as ours
from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.learn import SPECIALS, learn
from llamero.tokenizer.patterns import LLAMA3

WORDS = ["the", "a", "llama", "mouse", "ran", "said", "happy", "found", "saw", "it's", "don't", "house,", "river."]
WORDS += ["Mountain!", "12345", "2024", "naïve", "été", "日本", "🦙"]


def texts(count=400):
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) + rng.choice(["", "\n\n", "  \n"]) for _ in range(count)]


@pytest.fixture(scope="module")
def learnt():
    return ours.Tokenizer(learn(texts(), 330))


@pytest.fixture(scope="module")
def peer():
    library = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=330 - len(SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    library.train_from_iterator(texts(), trainer)
    return library


def test_specials_stand_last_and_have_their_roles(learnt):
    assert learnt.vocab_size == 330
    assert [learnt.special_tokens[name] for name in SPECIALS] == list(range(325, 330))
    assert (learnt.bos_id, learnt.eos_id, learnt.eot_id) == (325, 326, 329)
    assert learnt.stop_ids == {326, 329}
    assert learnt.encode("x")[0] == 325
    assert "<|start_header_id|>" in learnt.chat_template


@settings(deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from([*WORDS, " ", "\n", "  "]), max_size=20).map("".join))
def test_it_encodes_as_the_library_and_decodes_back(learnt, peer, text):
    ids = learnt.encode(text, bos=False)
    assert ids == peer.encode(text, add_special_tokens=False).ids
    assert learnt.decode(ids) == text


def test_frequent_words_become_one_token(learnt):
    assert len(learnt.encode(" llama", bos=False)) == 1
    assert len(learnt.encode(" happy", bos=False)) == 1


def test_the_same_texts_give_the_same_vocabulary():
    first, second = (ours.Tokenizer(learn(texts(), 300)).to_gguf() for _ in range(2))
    assert first["tokenizer.ggml.tokens"] == second["tokenizer.ggml.tokens"]
    assert first["tokenizer.ggml.merges"] == second["tokenizer.ggml.merges"]


def test_it_goes_through_a_file(learnt):
    again = ours.Tokenizer(define_gguf(learnt.to_gguf()))
    for text in texts(20):
        assert again.encode(text) == learnt.encode(text)
    assert again.special_tokens == learnt.special_tokens


def test_absurd_wishes_are_refused():
    with pytest.raises(SettingError, match="at least 261"):
        learn(texts(), 260)
    with pytest.raises(TokenizerError, match="not of 30000"):
        learn(texts(), 30000)
    with pytest.raises(SettingError, match="end_of_text"):
        learn(texts(), 300, ["<|begin_of_text|>", "<|eot_id|>"])
