"""Grammars that make an answer one or more calls, of functions that there are and with arguments as they are declared.

A call is written exactly as a model's template shows it, so that nothing new comes between the model and its habits.
Python's calls take JSON's values, but for True, False and None where a parameter is nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llamero.engine.constrain import enforced, json_within
from llamero.engine.form import Form
from llamero.errors import SettingError
from llamero.interfaces.calls.syntax import Syntax

_BY_NAME = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions"})
_ELSEWHERE = re.compile(r'"\$ref": "((?!#/(?:\$defs|definitions)/)[^"]*)"')
_PLAIN = {"boolean": '("True" | "False")', "null": '"None"'}


class Function(Protocol):
    """A function that may be called. strict: a schema of its parameters that cannot be enforced is an error."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def strict(self) -> bool: ...


def call_form(syntax: Syntax, functions: Sequence[Function], *, several: bool, optional: bool = False) -> Form:
    """The form of an answer that calls some of the functions.

    several: it may be more than one call. optional: it may be words, or words and then calls; no line of the words
    begins as a call does, with a bracket or a tag, for a call in another spelling would be held to no schema.
    Raises SettingError for a strict function whose schema cannot be enforced, by its name and the place.
    """
    if not functions:
        raise SettingError("a call is required, and there are no functions")
    rules = [rule for index, function in enumerate(functions) for rule in _rules(syntax, index, function)]
    call = " | ".join(f"call_{index}" for index in range(len(functions)))
    between = {"json": '"; "', "python": '", "', "tag": '"\\n"'}[syntax]
    calls = f"call ({between} call)*" if several else "call"
    calls = f'"[" {calls} "]"' if syntax == "python" else calls
    start = ["start: calls | words", *_words(syntax)] if optional else ["start: calls"]
    return Form(kind="grammar", source="\n".join([*start, f"calls: {calls}", f"call: {call}", *rules, ""]))


def _words(syntax: Syntax) -> list[str]:
    """Words and perhaps calls after them. Words go on as long as they can: what ends them is no part of any words."""
    sign = "" if syntax == "tag" else r"|<[^f|<\n]"  # no `<function=` and no mark; where tags are calls, no `<` at all
    line = rf"([^\s{{\[<]{sign})([^\n<]{sign})*"
    return ["words: WORDS calls?", rf"WORDS: /[ \t\n]{{0,40}}({line}([ \t\n]{{1,40}}{line})*[ \t\n]{{0,40}})?/"]


def _rules(syntax: Syntax, index: int, function: Function) -> list[str]:
    schema = _parameters(syntax, function)
    if syntax == "python":
        return _python(index, function.name, schema)
    opening, closing = {
        "json": (f'{{"name": {json.dumps(function.name)}, "parameters": ', "}"),
        "tag": (f"<function={function.name}>", "</function>"),
    }[syntax]
    return [f"call_{index}: {_literal(opening)} %json {json_within(schema)} {_literal(closing)}"]


def _parameters(syntax: Syntax, function: Function) -> dict[str, Any]:
    """The schema of the arguments in words that are enforced; where it cannot be, any object of its names."""
    try:
        schema = enforced(function.parameters)
        _check(syntax, schema)
    except SettingError as error:
        if function.strict:
            raise SettingError(f"function {function.name!r}: {error}") from None
        schema = {"properties": {name: {} for name in function.parameters.get("properties", {}) if name.isidentifier()}}
    return schema | {"type": "object"}


def _check(syntax: Syntax, schema: Mapping[str, Any]) -> None:
    """Raise SettingError for what arguments cannot be, or cannot be held to in Python."""
    kinds = schema.get("type", "object")
    if "object" not in ([kinds] if isinstance(kinds, str) else kinds):
        raise SettingError("json_schema, at #: arguments are an object")
    if syntax != "python":
        return
    names = schema.get("properties", {}).keys()
    strange = [f"{word!r} beside 'properties'" for word in schema.keys() - _BY_NAME]
    strange += [f"a parameter {name!r} that is no name" for name in names if not name.isidentifier()]
    strange += [f"a required {name!r} without a schema" for name in schema.get("required", ()) if name not in names]
    strange += [f"a reference to {pointer!r}" for pointer in _ELSEWHERE.findall(json.dumps(schema))]
    if strange:
        raise SettingError(
            f"json_schema, at #: {strange[0]:.200} cannot be enforced in Python's calls, as this model has"
        )


def _python(index: int, name: str, schema: Mapping[str, Any]) -> list[str]:
    """f(a=1, b=2): parameters in the order of the schema, those not required each left out or not."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    shared = {word: schema[word] for word in ("$defs", "definitions") if word in schema}
    rules = [f'call_{index}: {_literal(name + "(")} first_{index}_0 ")"']
    for at, (key, value) in enumerate(properties.items()):
        one, rest = f"{_literal(key + '=')} {_value(value, shared)}", f"rest_{index}_{at + 1}"
        skipped = key not in required
        rules.append(f"first_{index}_{at}: {one} {rest}" + f" | first_{index}_{at + 1}" * skipped)
        rules.append(f'rest_{index}_{at}: ", " {one} {rest}' + f" | {rest}" * skipped)
    end = len(properties)
    return [*rules, f'first_{index}_{end}: ""', f'rest_{index}_{end}: ""']


def _value(schema: Any, shared: Mapping[str, Any]) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(kind, str) and kind in _PLAIN and not schema.keys() & {"enum", "const"}:
        return _PLAIN[kind]
    return f"%json {json_within(schema if isinstance(schema, bool) else {**shared, **schema})}"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
