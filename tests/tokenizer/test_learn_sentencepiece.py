"""Tests of tokenizer/learn_sentencepiece.py and words.py: the same vocabulary as sentencepiece makes of whole lines."""

import io
from collections import Counter

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.errors import SettingError, TokenizerError
from llamero.tokenizer.definition import TokenType
from llamero.tokenizer.from_sentencepiece import define_sentencepiece
from llamero.tokenizer.learn_sentencepiece import learn_sentencepiece
from llamero.tokenizer.tokenizer import Tokenizer
from llamero.tokenizer.words import count_words

CORPUS = """
The quick brown fox jumps over the lazy dog. The dog's owner can't see it, and we'll tell them they're late.
In 1984 there were 3,333 + 777 reasons; naïve café owners said "Ünïcödé is fun" — didn't they?
    indented = code(x)  # a comment\n\tif (a && b) { return a/b; }\r\n\r\n trailing  \n
日本語のテスト。こんにちは世界。 нещо на Български, ещё раз. שלום עולם. مرحبا بالعالم. 🙂👍🏽 🙂👍🏽 ▁odd▁▁spaces
"""


def from_lines(text, size, **options):
    """What sentencepiece itself makes of the lines. It would take "\\r" from their ends, and tabs for characters,
    which the version that made Llama's vocabulary did not: so each line has a number after it, and NUL for a tab.
    """
    model = io.BytesIO()
    lines = [line.replace("\t", "\0") for line in text.split("\n") if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{line}\t1" for line in lines), input_format="tsv", model_writer=model, vocab_size=size,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        max_sentence_length=1 << 20, **options,
    )  # fmt: skip
    return define_sentencepiece(model.getvalue())


def tokens(definition):
    return [definition.tokens.at(i) for i in range(len(definition.tokens))]


@pytest.fixture(scope="module")
def learnt():
    return Tokenizer(learn_sentencepiece([CORPUS] * 3, 500, ["<|turn|>"]))


@pytest.mark.parametrize("coverage", [0.98, 0.99, 0.99995, 1.0])
def test_the_same_as_from_whole_lines(coverage):
    ours = learn_sentencepiece([CORPUS[:200], CORPUS[200:]], 500, coverage=coverage)
    theirs = from_lines(CORPUS[:200] + "\n" + CORPUS[200:], 500, character_coverage=coverage)
    assert tokens(ours) == tokens(theirs)
    assert ours.scores.tolist() == theirs.scores.tolist()


PARTS = ["a", "b", "ab", " ", "  ", "▁", "\n", "\t", "1", "é", "日", "\r", ".", "the"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(PARTS), min_size=30))
def test_the_same_on_any_text(parts):
    text = "the aba bab 11 é.\n" + "".join(parts)
    ours, theirs = learn_sentencepiece([text], 270, coverage=1.0), from_lines(text, 270, character_coverage=1.0)
    assert tokens(ours) == tokens(theirs)


def test_it_is_built_as_llamas(learnt):
    assert learnt.kind == "spm"
    assert (learnt.unk_id, learnt.bos_id, learnt.eos_id) == (0, 1, 2)
    assert [learnt.piece(3 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert learnt.special_tokens["<|turn|>"] == learnt.vocab_size - 1 == 499
    assert learnt.encode("1984\t\n", bos=False)[1:] == [
        *(learnt.encode(digit, start=False, bos=False)[0] for digit in "1984"), 3 + 9, 3 + 10
    ]  # fmt: skip
    assert "[INST]" in learnt.chat_template
    assert not learnt.rules.remove_extra_whitespaces


def test_no_token_holds_two_digits_or_a_break(learnt):
    for i in range(259, learnt.vocab_size - 1):
        piece = learnt.piece(i).decode()
        assert sum(char.isdigit() for char in piece) <= 1
        assert len(piece.replace(" ", "")) <= 1 or not any(char.isdigit() for char in piece)
        assert not {"\n", "\t", "\0"} & set(piece)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_it_decodes_back(learnt, text):
    assert learnt.decode(learnt.encode(text)) == text.replace("▁", " ")


def test_the_same_texts_give_the_same_vocabulary_in_any_order():
    lines = CORPUS.split("\n")
    first, second = (Tokenizer(learn_sentencepiece(iter(some), 500)) for some in (lines, reversed(lines)))
    assert first.to_sentencepiece() == second.to_sentencepiece()


def test_words_are_sentencepieces():
    found = count_words(["a b\n\n  c  d \n", "a\tb"])
    assert found == Counter({"▁a": 1, "▁b": 1, "▁▁▁c": 1, "▁▁d": 1, "▁": 1, "▁a\0b": 1})
    assert count_words(["x" * 2500]) == Counter({"▁" + "x" * 1023: 1, "x" * 1024: 1, "x" * 453: 1})


def test_rare_words_are_forgotten_when_there_are_too_many():
    found = count_words(["often often", "  rare 1", "often again again", "2 3"], most=2)
    assert found["▁often"] == 3
    assert len(found) <= 2


def test_absurd_wishes_are_refused():
    with pytest.raises(SettingError, match="at least 260"):
        learn_sentencepiece([CORPUS], 259)
    with pytest.raises(SettingError, match="coverage"):
        learn_sentencepiece([CORPUS], 500, coverage=0.5)
    with pytest.raises(SettingError, match="already"):
        learn_sentencepiece([CORPUS], 500, ["<s>"])
    with pytest.raises(TokenizerError, match="not of 30000"):
        learn_sentencepiece([CORPUS], 30000)
    with pytest.raises(TokenizerError, match="more different characters"):
        learn_sentencepiece([CORPUS], 265)
    for nothing in ([], [""], ["\n"], ["▅"], ["\0"]):
        with pytest.raises(TokenizerError):
            learn_sentencepiece(nothing, 300)


def test_what_is_no_word_does_no_harm():
    data = "x" * 300_000 + " some words " + "日本語" * 50_000
    definition = learn_sentencepiece([data], 270)
    assert set(definition.types.tolist()) == {TokenType.NORMAL, TokenType.BYTE, TokenType.CONTROL, TokenType.UNKNOWN}
