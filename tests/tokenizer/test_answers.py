"""Tests of tokenizer/answers.py: what the assistant says counts, to its end of turn, and nothing else."""

from __future__ import annotations

import pytest

from llamero.errors import TemplateError
from llamero.tokenizer.answers import answers
from llamero.tokenizer.chat import ChatTemplate
from llamero.tokenizer.learn import learn
from llamero.tokenizer.tokenizer import Tokenizer

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello, llama!"},
    {"role": "assistant", "content": "Hello! How are you?"},
    {"role": "user", "content": "What does the assistant say?"},
    {"role": "assistant", "content": "It says <|eot_id|> hello."},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(learn((text["content"] for text in MESSAGES), 280))


def spoken(tokenizer: Tokenizer, ids: list[int], says: list[bool]) -> list[str]:
    """The stretches that count, as text."""
    stretches: list[list[int]] = [[]]
    for number, said in zip(ids, says, strict=True):
        if said:
            stretches[-1].append(number)
        elif stretches[-1]:
            stretches.append([])
    return [tokenizer.decode(stretch, special=True) for stretch in stretches if stretch]


def test_answers_count_with_their_end_of_turn(tokenizer: Tokenizer) -> None:
    template = ChatTemplate.builtin("llama-3")
    ids, says = answers(template, tokenizer, MESSAGES)
    assert ids == template.encode(tokenizer, MESSAGES, add_generation_prompt=False)
    assert spoken(tokenizer, ids, says) == ["Hello! How are you?<|eot_id|>", "It says <|eot_id|> hello.<|eot_id|>"]


def test_an_end_of_turn_in_a_message_is_text(tokenizer: Tokenizer) -> None:
    ids, says = answers(ChatTemplate.builtin("llama-3"), tokenizer, MESSAGES)
    assert sum(number == tokenizer.eot_id for number, said in zip(ids, says, strict=True) if said) == 2


def test_learning_and_inference_meet(tokenizer: Tokenizer) -> None:
    """What comes before an answer is, id for id, what a model is given at inference."""
    template = ChatTemplate.builtin("llama-3")
    ids, says = answers(template, tokenizer, MESSAGES[:3])
    assert ids[: says.index(True)] == template.encode(tokenizer, MESSAGES[:2], add_generation_prompt=True)


def test_nothing_counts_where_nobody_answers(tokenizer: Tokenizer) -> None:
    assert not any(answers(ChatTemplate.builtin("llama-3"), tokenizer, MESSAGES[:2])[1])


def test_a_template_that_rewrites_what_was_said_is_refused(tokenizer: Tokenizer) -> None:
    last_only = ChatTemplate("{{ messages[-1].content }}", name="forgetful")
    with pytest.raises(TemplateError, match=r"message 3.*forgetful"):
        answers(last_only, tokenizer, MESSAGES)
