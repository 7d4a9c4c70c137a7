"""Answers of a form, asked for from Python and from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamero import Llama
from llamero.errors import SettingError

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llama(models: Path) -> Llama:
    return Llama(models / "chain.gguf")


def test_answers_of_each_form(llama: Llama) -> None:
    answer = llama.generate("x", json_schema=SCHEMA, max_tokens=80)
    assert json.loads(answer.text).keys() == {"name", "age"}
    assert re.fullmatch(" (Here|Hero)!?", llama.generate("x", regex=" (Here|Hero)!?").text)
    assert llama.generate("x", grammar='root ::= "a" "b"').text == "ab"
    pieces = llama.chat([{"role": "user", "content": "x"}], regex="[ab]{3}", stream=True)
    assert re.fullmatch("[ab]{3}", "".join(pieces))


def test_an_answer_whose_room_runs_out_is_whole_and_says_length(llama: Llama) -> None:
    answer = llama.generate("x", json_schema=SCHEMA, max_tokens=30, temperature=0)
    assert json.loads(answer.text).keys() == {"name", "age"}
    assert answer.finish_reason == "length"


def test_wrong_forms(llama: Llama) -> None:
    with pytest.raises(SettingError, match="regex and grammar are two forms"):
        llama.generate("x", regex="a", grammar="b")
    with pytest.raises(SettingError, match="at character 0: unclosed"):
        llama.generate("x", regex="[a")
    with pytest.raises(SettingError, match="did you mean 'regex'"):
        llama.generate("x", regexp="a")  # type: ignore[call-overload]


Run = Callable[..., Any]


def test_forms_on_the_command_line(llamero: Run, tmp_path: Path) -> None:
    schema, grammar = tmp_path / "schema.json", tmp_path / "grammar.gbnf"
    schema.write_text(json.dumps(SCHEMA))
    grammar.write_text('root ::= "a" [bc]')
    for given in (str(schema), json.dumps(SCHEMA)):
        done = llamero("run", "-m", "chain.gguf", "x", "--json-schema", given, "--max-tokens", "60")
        assert (done.returncode, json.loads(done.stdout).keys()) == (0, {"name", "age"})
    assert llamero("run", "-m", "chain.gguf", "x", "--grammar", str(grammar)).stdout.strip() in ("ab", "ac")
    assert llamero("run", "-m", "chain.gguf", "x", "--regex", "1{4}").stdout == "1111\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json-schema", '{"minLenght": 1}'), "did you mean 'minLength'"),
        (("--json-schema", "{"), "this is no JSON"),
        (("--json-schema", "none.json"), "none.json: "),
        (("--grammar", "none.gbnf"), "none.gbnf: "),
        (("--regex", "a", "--grammar", "b"), "not allowed with"),
    ],
)
def test_wrong_forms_on_the_command_line(llamero: Run, options: tuple[str, ...], message: str) -> None:
    done = llamero("run", "-m", "chain.gguf", "x", *options)
    assert done.returncode > 0
    assert message in done.stderr
