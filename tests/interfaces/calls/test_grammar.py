"""Answers that must be calls are calls, of functions that there are, with arguments of their schemas."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest

from llamero.engine.constrain import Constraints
from llamero.engine.form import Form
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Sampling
from llamero.errors import ConstraintError, SettingError
from llamero.interfaces.calls.events import CallArguments, CallBegun, CallEnded
from llamero.interfaces.calls.grammar import call_form
from llamero.interfaces.calls.parser import CallParser
from llamero.interfaces.calls.syntax import Syntax, syntax_of
from llamero.tokenizer.chat import ChatTemplate
from llamero.tokenizer.load import load_tokenizer

TOKENIZER = load_tokenizer(str(files("llamero") / "embedded" / "llama-stories.gguf"))
CONSTRAINTS = Constraints(TOKENIZER)


@dataclass(frozen=True)
class Function:
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    strict: bool = False


WEATHER = Function(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"enum": ["Lima", "Cusco", 'a "b"\nc', "日本"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "metric": {"type": "boolean"},
            "where": {"$ref": "#/$defs/place"},
        },
        "required": ["city", "where"],
        "additionalProperties": False,
        "$defs": {"place": {"type": ["array", "null"], "items": {"type": "number"}, "maxItems": 2}},
    },
    strict=True,
)
NOW = Function("now", {"type": "object", "properties": {}, "additionalProperties": False})
LOOSE = Function("loose", {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}})
FUNCTIONS = {function.name: function for function in (WEATHER, NOW, LOOSE)}
SYNTAXES = get_args(Syntax)


def written(functions: list[Function], syntax: Syntax, several: bool, seed: int) -> list[tuple[str, Any]]:
    """The calls of a model of random logits."""
    rng = np.random.default_rng(seed)
    request = Request(
        prompt=(1,),
        max_tokens=300,
        sampling=Sampling(temperature=1, top_p=1, seed=seed),
        stop_ids=TOKENIZER.stop_ids,
        constraint=CONSTRAINTS.of(call_form(syntax, functions, several=several)),
    )
    run = Run(request, vocab=TOKENIZER.vocab_size, context=1 << 20)
    while run.finish_reason is None:
        run.accept(rng.standard_normal(TOKENIZER.vocab_size).astype(np.float32))
    parser = CallParser({name: tuple(f.parameters.get("properties", {})) for name, f in FUNCTIONS.items()})
    events = parser.push(TOKENIZER.decode(run.answer, start=False)) + parser.flush()
    names = [event.name for event in events if isinstance(event, CallBegun)]
    texts = [""] * len(names)
    for event in events:
        assert isinstance(event, CallBegun | CallArguments | CallEnded)
        if isinstance(event, CallArguments):
            texts[event.call] += event.text
    return list(zip(names, map(json.loads, texts), strict=True))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_required_calls_are_calls(syntax: Syntax) -> None:
    counts = set()
    for seed in range(24):
        calls = written([WEATHER, NOW], syntax, True, seed)
        counts.add(len(calls))
        for name, arguments in calls:
            jsonschema.validate(arguments, FUNCTIONS[name].parameters)
    assert min(counts) == 1 < max(counts)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_one_call_of_the_function_that_was_named(syntax: Syntax) -> None:
    for seed in range(8):
        [(name, arguments)] = written([WEATHER], syntax, False, seed)
        assert name == "get_weather"
        jsonschema.validate(arguments, WEATHER.parameters)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_schema_that_cannot_be_enforced(syntax: Syntax) -> None:
    [(name, arguments)] = written([LOOSE], syntax, False, 0)
    assert (name, type(arguments)) == ("loose", dict)
    with pytest.raises(SettingError, match=r"function 'loose': .*#/properties/a: 'uniqueItems' cannot be enforced"):
        call_form(syntax, [Function("loose", LOOSE.parameters, strict=True)], several=True)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("parameters", [{"properties": {"a": {"pattern": "(?=x)"}}}, {"required": "a"}])
def test_a_schema_that_the_grammar_engine_refuses(syntax: Syntax, parameters: dict[str, Any]) -> None:
    [(name, _)] = written([Function("loose", parameters)], syntax, False, 0)
    assert name == "loose"
    with pytest.raises(SettingError, match="function 'loose': json_schema, at #"):
        call_form(syntax, [Function("loose", parameters, strict=True)], several=True)


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
TWISTED: list[dict[str, Any]] = [
    {"$ref": "#/$defs/p", "$defs": {"p": OBJECT | {"required": ["a"]}}},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
    OBJECT | {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    OBJECT | {"required": ["c"]},
    OBJECT | {"required": ["a", "b"], "patternProperties": {"^a": {"maximum": 3}}},
    OBJECT | {"enum": [{"a": 1}]},
    {"type": "object", "properties": {"a-b": {"type": "integer"}}, "required": ["a-b"]},
    {"type": "object", "properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "integer"}}, "required": ["a"]},
    {"type": ["object", "null"], "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "string"},
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("parameters", TWISTED, ids=str)
def test_strict_arguments_are_of_their_schema_or_refused(syntax: Syntax, parameters: dict[str, Any]) -> None:
    try:
        calls = [written([Function("loose", parameters, strict=True)], syntax, False, seed) for seed in range(5)]
    except SettingError:
        calls = []
    for [(_, arguments)] in calls:
        assert isinstance(arguments, dict)
        jsonschema.validate(arguments, parameters)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("parameters", [*TWISTED, LOOSE.parameters], ids=str)
def test_loose_arguments_are_any_object(syntax: Syntax, parameters: dict[str, Any]) -> None:
    calls = [written([Function("loose", parameters)], syntax, False, seed) for seed in range(5)]
    assert all(isinstance(arguments, dict) for [(_, arguments)] in calls)
    if syntax == "python" and "a" in parameters.get("properties", {}):
        form = call_form(syntax, [Function("loose", parameters)], several=False)
        assert follows(form, "[loose(a=1)]")  # by its name, though not as it is declared


def may_be(syntax: Syntax, text: str) -> bool:
    """Whether an answer that may be words or calls of a strict function can be this text."""
    return follows(call_form(syntax, [WEATHER], several=True, optional=True), text)


def follows(form: Form, text: str) -> bool:
    """Whether an answer of this form can be this text."""
    matcher = CONSTRAINTS.of(form).begin()
    for token in TOKENIZER.encode(text, bos=False):
        try:
            matcher.accept(token)
        except ConstraintError:
            return False
    logits = np.zeros(TOKENIZER.vocab_size, np.float32)
    matcher.mask(logits)
    return bool(np.isfinite(logits[sorted(TOKENIZER.stop_ids)]).all())


GOOD: dict[Syntax, str] = {
    "json": '{"name": "get_weather", "parameters": {"city": "Lima", "where": null}}',
    "python": '[get_weather(city="Lima", where=null)]',
    "tag": '<function=get_weather>{"city": "Lima", "where": null}</function>',
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_words_or_calls_of_strict_functions(syntax: Syntax) -> None:
    good = GOOD[syntax]
    for text in (
        "",
        "Hello.",
        "Hello.\n\nx = {1: [2]}, a" + " < b" * (syntax != "tag"),
        "\n\n" + good,
        good,
        "I look:\n" + good,
    ):
        assert may_be(syntax, text)
    for text in (good.replace("Lima", "Rome"), "I look:\n" + good.replace("Lima", "Rome"), "x\n{", "x\n [y", "x <fu"):
        assert not may_be(syntax, text)
    for other in GOOD.values():
        assert may_be(syntax, other) == (other == good)


def test_no_functions() -> None:
    with pytest.raises(SettingError, match="no functions"):
        call_form("json", [], several=True)


SHOWN = "{% for tool in tools %}{{ tool.function.name }}{% endfor %} "


@pytest.mark.parametrize(
    ("template", "tokens", "syntax"),
    [
        (ChatTemplate.builtin("llama-3.1"), ("<|python_tag|>",), "json"),
        (ChatTemplate.builtin("llama-3.2"), (), "json"),
        (ChatTemplate(SHOWN + "use [func_name1(params_name1=params_value1), func_name2(params)]"), (), "python"),
        (ChatTemplate(SHOWN + "<function=example_function_name>{}</function>"), (), "tag"),
        (ChatTemplate(SHOWN), ("<|python_start|>", "<|python_end|>"), "python"),
        (ChatTemplate(SHOWN + '{"name": f, "parameters": p}'), ("<|python_start|>",), "json"),
        (ChatTemplate("{{ messages }}"), ("<|python_start|>",), None),
        *((ChatTemplate.builtin(name), (), None) for name in ("llama-2", "llama-3", "plain")),
    ],
)
def test_syntaxes_of_templates(template: ChatTemplate, tokens: tuple[str, ...], syntax: str | None) -> None:
    assert syntax_of(template, tokens) == syntax
