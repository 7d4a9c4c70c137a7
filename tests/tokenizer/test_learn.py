"""Tests of tokenizer/learn.py: the learnt vocabulary beside a slow twin and a published reference, and its rules."""

import random
from base64 import b64decode
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.errors import SettingError, TokenizerError
from llamero.tokenizer import tokenizer as ours
from llamero.tokenizer.definition import Definition, Form, Rules, Strings, TokenType
from llamero.tokenizer.from_gguf import define_gguf
from llamero.tokenizer.learn import SPECIALS, learn
from llamero.tokenizer.merges import Encoder
from llamero.tokenizer.names import llama3_specials
from llamero.tokenizer.slow import by_id, encode_bpe, learn_merges

WORDS = ["the", "a", "llama", "mouse", "ran", "said", "happy", "found", "saw", "it's", "don't", "house,", "river."]
WORDS += ["Mountain!", "12345", "2024", "naïve", "été", "日本", "🦙"]


def texts(count=400):
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) + rng.choice(["", "\n\n", "  \n"]) for _ in range(count)]


@pytest.fixture(scope="module")
def learnt():
    return ours.Tokenizer(learn(texts(), 330))


def gpt2_bytes(text):
    """A token in GPT-2's alphabet as its bytes."""
    alphabet = Encoder(bytes_only("gpt-2")).tokens(Form.BYTE_LEVEL)
    return bytes(alphabet.index(char.encode()) for char in text)


def bytes_only(pre):
    return Definition(
        rules=Rules(kind="bpe", pre=pre),
        form=Form.RAW,
        tokens=Strings.of(bytes([byte]) for byte in range(256)),
        types=[TokenType.NORMAL] * 256,
    )


def test_specials_stand_last_and_have_their_roles(learnt):
    assert learnt.vocab_size == 330
    assert [learnt.special_tokens[name] for name in SPECIALS] == list(range(325, 330))
    assert (learnt.bos_id, learnt.eos_id, learnt.eot_id) == (325, 326, 329)
    assert learnt.stop_ids == {326, 329}
    assert learnt.encode("x")[0] == 325
    assert "<|start_header_id|>" in learnt.chat_template


def test_metas_256_special_tokens():
    tokenizer = ours.Tokenizer(learn(texts(), 590, llama3_specials()))
    assert tokenizer.special_tokens["<|eom_id|>"] == 590 - 256 + 8
    assert tokenizer.pad_id == 590 - 256 + 4


def test_every_merge_is_the_twins():
    """The twin is told the library's rule for equally frequent pairs: lower ids of left and right go first."""
    tokenizer = ours.Tokenizer(learn(texts(), 256 + 70 + len(SPECIALS)))
    tokens = [tokenizer.piece(i) for i in range(256 + 70)]
    ids = {token: i for i, token in enumerate(tokens[:256])}
    pieces = Counter(piece.encode() for text in texts() for piece in tokenizer.split(text))
    for left, right in learn_merges(pieces, lambda left, right: (-ids[left], -ids[right])):
        ids.setdefault(left + right, len(ids))
        if len(ids) == len(tokens):
            break
    assert list(ids) == tokens


def test_the_twin_learns_the_published_reference(shelved):
    """Stanford's: GPT-2's split, and of equally frequent pairs the greatest by its bytes."""
    corpus = shelved("tokenizers/cs336_corpus.en").read_text(encoding="utf-8")
    lines = shelved("tokenizers/cs336_train-bpe-reference-merges.txt").read_text(encoding="utf-8").splitlines()
    expected = [tuple(gpt2_bytes(side) for side in line.split(" ")) for line in lines]
    split = Encoder(bytes_only("gpt-2")).split
    pieces = Counter(piece.encode() for piece in split(corpus))
    assert list(islice(learn_merges(pieces, lambda left, right: (left, right)), len(expected))) == expected


def test_it_encodes_as_the_slow_twin(learnt):
    ids = {learnt.piece(i): i for i in range(325)}
    for text in texts(50):
        slow = [
            token for part in learnt.split(text) for token in encode_bpe(part.encode(), ids, by_id(ids), whole=True)
        ]
        assert learnt.encode(text, bos=False) == slow


@settings(deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from([*WORDS, " ", "\n", "  "]), max_size=20).map("".join))
def test_it_decodes_back(learnt, text):
    assert learnt.decode(learnt.encode(text, bos=False)) == text


def test_frequent_words_become_one_token(learnt):
    assert len(learnt.encode(" llama", bos=False)) == 1
    assert len(learnt.encode(" happy", bos=False)) == 1


def test_the_same_texts_give_the_same_vocabulary_in_any_order():
    backwards = list(reversed(texts()))
    first, second = (ours.Tokenizer(learn(iter(some), 300)).to_tiktoken() for some in (texts(), backwards))
    assert first == second
    assert b64decode(first.split()[0]) == b"!"


def test_it_goes_through_a_file(learnt):
    again = ours.Tokenizer(define_gguf(learnt.to_gguf()))
    for text in texts(20):
        assert again.encode(text) == learnt.encode(text)
    assert again.special_tokens == learnt.special_tokens


def test_absurd_wishes_are_refused():
    with pytest.raises(SettingError, match="at least 261"):
        learn(texts(), 260)
    with pytest.raises(SettingError, match="at most 1048576"):
        learn(texts(), 1 << 30)
    with pytest.raises(TokenizerError, match="not of 30000"):
        learn(texts(), 30000)
    with pytest.raises(SettingError, match="end_of_text"):
        learn(texts(), 300, ["<|begin_of_text|>", "<|eot_id|>"])
    with pytest.raises(SettingError, match="twice"):
        learn(texts(), 300, [*SPECIALS, SPECIALS[0]])
