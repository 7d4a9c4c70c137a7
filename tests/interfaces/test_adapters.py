"""Adapters by name in the Python class and on the command line, on a model whose words they change in known ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamero import Llama
from llamero.errors import ModelNotFound, SettingError, WeightsError
from llamero.interfaces.adapters import parse_source

FIRST, TINY, END = 259, 262, 271  # the ids of the tale's first word, of "▁tiny", and of its last, "!"


def test_each_answer_chooses_its_adapter(models: Path, tale: str, after_tiny: Any) -> None:
    sources = {"short": after_tiny(), "half": (after_tiny(), 0.25), "cares": [(after_tiny(), -1.0), after_tiny()]}
    with Llama(models / "chain.gguf", adapters=sources) as llama:
        for _ in range(2):  # the second time out of the cache
            assert llama.generate("abc ", temperature=0).text == f" {tale}"
            assert llama.generate("abc ", temperature=0, adapter="short").text == " Here is a tiny!"
            assert llama.generate("abc ", temperature=0, adapter="half").text == f" {tale}"
            assert llama.generate("abc ", temperature=0, adapter="cares").text == f" {tale}"
        changed = llama.logits([1, TINY], adapter="short") - llama.logits([1, TINY])
        assert np.argmax(changed[1]) == END
        assert not changed[0].any()
        with pytest.raises(SettingError, match=r"adapter 'shore' is unknown: did you mean 'short'\?"):
            llama.generate("abc ", adapter="shore")


def test_files_that_do_not_fit(models: Path, tmp_path: Path, after_tiny: Any) -> None:
    with pytest.raises(ModelNotFound, match="nothing"):
        Llama(models / "chain.gguf", adapters={"x": tmp_path / "nothing"})
    with pytest.raises(WeightsError, match=r"output\.weight\.lora_a has shape \(1, 300\)"):
        Llama(models / "chain.gguf", adapters={"x": after_tiny(dim=300)})
    with pytest.raises(SettingError, match="scale"):
        Llama(models / "chain.gguf", adapters={"x": (after_tiny(), float("inf"))})
    with pytest.raises(SettingError, match="scale of 1e\\+60 is too large"):
        Llama(models / "chain.gguf", adapters={"x": (after_tiny(), 1e60)})
    with pytest.raises(SettingError, match="no file"):
        Llama(models / "chain.gguf", adapters={"x": []})


def test_numbers_too_large_for_halves_are_kept(models: Path, after_tiny: Any) -> None:
    with Llama(models / "chain.gguf", adapters={"x": (after_tiny(), 1e6)}) as llama:
        assert np.isfinite(llama.logits([1, TINY], adapter="x")).all()


def test_path_and_scale(tmp_path: Path) -> None:
    assert parse_source("a/b") == ("a/b", 1.0)
    assert parse_source("a/b:0.5") == ("a/b", 0.5)
    assert parse_source("a:b:-1e-1") == ("a:b", -0.1)
    assert parse_source("owner/name:latest") == ("owner/name:latest", 1.0)
    (tmp_path / "run:2").touch()
    assert parse_source(f"{tmp_path}/run:2") == (f"{tmp_path}/run:2", 1.0)


def test_on_the_command_line(llamero: Any, tale: str, after_tiny: Any) -> None:
    base = ["run", "-m", "chain.gguf", "abc ", "--temperature", "0", "--quiet"]
    assert llamero(*base, "--lora", str(after_tiny())).stdout == " Here is a tiny!\n"
    assert llamero(*base, "--lora", f"{after_tiny()}:0").stdout == f" {tale}\n"
    mixed = [*base, "--lora", str(after_tiny()), "--lora", str(after_tiny("other.gguf", FIRST)) + ":2"]
    assert llamero(*mixed, "--max-tokens", "5").stdout == " Here is a tiny Here\n"
    assert "not there" in llamero(*base, "--lora", "nowhere").stderr


def test_in_a_chat(llamero: Any, tale: str, after_tiny: Any) -> None:
    talk = "a\n/set adapter\na\n/set adapter lora\na\n"
    said = llamero("chat", "-m", "chatty.gguf", "--temperature", "0", "--lora", str(after_tiny()), text=talk)
    assert [line.strip() for line in said.stdout.splitlines()] == ["Here is a tiny!", tale, "Here is a tiny!"]
