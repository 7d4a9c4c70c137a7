"""Guessing ahead by name, in the Python class and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamero import Llama
from llamero.errors import ModelNotFound, SettingError


def test_a_draft_model_and_lookup_change_no_answer(models: Path, tale: str) -> None:
    for settings in ({"draft": models / "chatty.gguf"}, {"speculate": "ngram"}):
        with Llama(models / "chain.gguf", cache="f32", **settings) as llama:
            answers = [llama.generate(f"abc {tale} abc ", temperature=0.1, seed=seed) for seed in range(3)]
            assert {answer.text for answer in answers} == {f" {tale}"}
            assert all(answer.accepted_tokens <= answer.drafted_tokens for answer in answers)
            assert answers[0].accepted_tokens > 0  # later it may have been found not to pay on so small a model
            with llama.generate("abc ", stream=True, temperature=0) as stream:
                assert "".join(stream) == f" {tale}"
            stopped = llama.generate(f"abc {tale} ", temperature=0, stop="tiny")
            assert stopped.text == " Here is a "
            assert len(stopped.ids) == 4


def test_what_cannot_guess_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="did you mean 'ngram'"):
        Llama(models / "chain.gguf", speculate="ngrams")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="not from both"):
        Llama(models / "chain.gguf", speculate="ngram", draft=models / "chain.gguf")
    with pytest.raises(ModelNotFound, match="no model"):
        Llama(models / "chain.gguf", draft=tmp_path / "nothing.gguf")
    with pytest.raises(SettingError, match=r"cannot draft: its vocabulary of 4096 tokens"):
        Llama(models / "chain.gguf", draft=_embedded())


def _embedded() -> Path:
    from llamero.interfaces.models import find_model

    try:
        return find_model(None)
    except ModelNotFound as error:
        pytest.skip(f"the model inside is not here: {error}")


def test_on_the_command_line(llamero: Any, tale: str) -> None:
    base = ["run", "-m", "chain.gguf", f"abc {tale} abc ", "--temperature", "0"]
    for guessing in (["--draft", "chatty.gguf"], ["--speculate", "ngram"]):
        said = llamero(*base, *guessing)
        assert said.stdout == f" {tale}\n"
        assert "guesses right" in said.stderr
    assert "guesses" not in llamero(*base).stderr
    assert llamero(*base, "--speculate", "often").returncode == 2
