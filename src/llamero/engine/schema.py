"""JSON schemas: read strictly, and said again in those words that the grammar engine keeps to the letter.

Whatever cannot be enforced is refused by name and place; nothing is ignored but what by the standard only annotates
(JSON Schema 2020-12; `definitions`, `items` as a list and `additionalItems` of the older drafts are understood).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from llamero.engine.meetings import check_meetings
from llamero.engine.pattern import engine_pattern
from llamero.errors import SettingError, nearest

_NESTING = 64
_PATTERNED = 64
_LARGEST = 256 * 1024  # characters of JSON text
_EXACT = 2**53  # from here on the grammar engine would round


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ANNOTATIONS = _words(
    "title description default examples example deprecated readOnly writeOnly discriminator $comment $schema"
)
_KEPT = _words(
    "type const enum required minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum "
    "multipleOf minItems maxItems maxProperties $ref"
)
_BOUNDS = _words("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf")
_EXACTLY = _BOUNDS | {"const", "enum"}
_MANY = _words("anyOf oneOf allOf prefixItems")  # a list of schemas
_NAMED = _words("properties patternProperties $defs definitions")  # schemas by name
_HANDLED = _words("additionalProperties items additionalItems format minProperties pattern $id")
_UNENFORCED = _words(
    "not if then else contains minContains maxContains uniqueItems propertyNames dependentRequired dependentSchemas "
    "dependencies unevaluatedProperties unevaluatedItems contentEncoding contentMediaType contentSchema nullable "
    "$anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary x-guidance"
)
_UNDERSTOOD = _KEPT | _MANY | _NAMED | _HANDLED
_ADVICE = MappingProxyType({"nullable": 'write "type": [..., "null"]', "contentEncoding": "write a pattern"})

_DAY = r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
_LEAP = r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29"
_DATE = rf"(?:(?:\d{{3}}[1-9]|\d\d[1-9]0|\d[1-9]00|[1-9]000)-{_DAY}|{_LEAP})"  # years 0001 to 9999, as they were
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
FORMATS = MappingProxyType(
    {name: {"format": name} for name in ("duration", "ipv4", "ipv6", "uri", "uuid")}
    | {"date": {"pattern": f"^{_DATE}$"}, "time": {"pattern": f"^{_TIME}$"}}
    | {"date-time": {"pattern": f"^{_DATE}T{_TIME}$"}, "hostname": {"format": "hostname", "maxLength": 253}}
    | {"email": {"format": "email", "pattern": rf"^[^@]{{1,64}}@{_LABEL}(?:\.{_LABEL})*$", "maxLength": 254}}
)
"""Formats of strings in enforced words: llguidance alone lets days through that no calendar has (29 February 2023), and
names that are too long (RFC 1123, 2.1; RFC 5321, 4.5.3.1)."""


def enforceable(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """The schema in words that are all enforced. Raises SettingError naming the place of what cannot be."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingError(f"json_schema is not JSON: {error}") from None
    if size > _LARGEST:
        raise SettingError(f"json_schema has {size:,} characters; at most {_LARGEST:,} are taken")
    read = _schema(schema, "#", 0)
    check_meetings(read)
    return read if isinstance(read, dict) else ({} if read else {"enum": []})


def inner(schema: Any, where: str = "#") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in this one that refers to none elsewhere, in enforced words, with its place; deepest first."""
    if not isinstance(schema, Mapping):
        return
    for word, value in schema.items():
        lists = isinstance(value, list | tuple) and word in (*_MANY, "items")
        if lists or (isinstance(value, Mapping) and word in _NAMED):
            for name, item in enumerate(value) if lists else value.items():
                yield from inner(item, f"{where}/{word}/{_escaped(name)}")
        elif word in _HANDLED:
            yield from inner(value, f"{where}/{word}")
    if '"$ref"' not in json.dumps(schema):
        yield where, enforceable(schema)


def _schema(schema: Any, where: str, level: int) -> dict[str, Any] | bool:
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        raise _refused(where, f"a schema is a mapping, true or false, not {type(schema).__name__}")
    if level > _NESTING:
        raise _refused(where, f"schemas are nested more than {_NESTING} levels deep")
    if "$id" in schema and level:
        raise _refused(where, "'$id' below the whole schema begins another one, which references cannot be read in")
    copy: dict[str, Any] = {}
    for word, value in schema.items():
        _check_word(word, where)
        if word in _KEPT:
            copy[word] = value
        elif word == "additionalProperties":
            copy[word] = _schema(value, f"{where}/{word}", level + 1)
        elif word in _MANY:
            copy[word] = _list(value, f"{where}/{word}", level)
        elif word in _NAMED:
            copy[word] = _map(value, f"{where}/{word}", level)
    _patterns(copy, schema, where)
    _numbers(schema, where)
    _items(schema, copy, where, level)
    _format(schema, copy, where)
    _least_properties(schema, where)
    return copy


def _check_word(word: Any, where: str) -> None:
    if word in _UNENFORCED:
        advice = f"; {_ADVICE[word]}" if word in _ADVICE else ""
        raise _refused(where, f"{word!r} cannot be enforced while an answer is written{advice}")
    known = word in _UNDERSTOOD or word in _ANNOTATIONS
    if not known and not str(word).startswith("x-"):
        raise _refused(where, f"unknown keyword {word!r:.80}; {nearest(str(word), _UNDERSTOOD)}")


def _list(value: Any, where: str, level: int) -> list[dict[str, Any] | bool]:
    if not isinstance(value, list | tuple):
        raise _refused(where, f"this is a list of schemas, not {type(value).__name__}")
    return [_schema(item, f"{where}/{index}", level + 1) for index, item in enumerate(value)]


def _map(value: Any, where: str, level: int) -> dict[str, dict[str, Any] | bool]:
    if not isinstance(value, Mapping):
        raise _refused(where, f"this is a mapping of schemas by name, not {type(value).__name__}")
    return {str(name): _schema(item, f"{where}/{_escaped(name)}", level + 1) for name, item in value.items()}


def _patterns(copy: dict[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """`pattern` and the names of `patternProperties`, as the grammar engine reads them."""
    named = copy.get("patternProperties", {})
    if len(named) > _PATTERNED:
        raise _refused(where, f"'patternProperties' has more than {_PATTERNED} patterns, each compared with all others")
    try:
        if "pattern" in schema:
            pattern = schema["pattern"]
            copy["pattern"] = engine_pattern(pattern) if isinstance(pattern, str) else pattern
        if named:
            copy["patternProperties"] = {engine_pattern(name): item for name, item in named.items()}
    except ValueError as error:
        raise _refused(where, f"a pattern has {error}") from None
    if len(copy.get("patternProperties", ())) < len(named):
        raise _refused(where, "two patterns of 'patternProperties' say the same")


def _numbers(schema: Mapping[str, Any], where: str) -> None:
    for word in _BOUNDS & schema.keys():
        value = schema[word]
        if isinstance(value, bool) or not isinstance(value, int | float) or (word == "multipleOf" and value <= 0):
            raise _refused(where, f"{word!r} takes a number{' above 0' * (word == 'multipleOf')}, not {value!r:.80}")
    for word in _EXACTLY & schema.keys():
        if any(abs(number) > _EXACT for number in _numbers_in(schema[word])):
            raise _refused(where, f"numbers beyond 2**53 cannot be enforced in {word!r}; let it be text")


def _numbers_in(value: Any) -> Iterator[int | float]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, int | float):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _items(schema: Mapping[str, Any], copy: dict[str, Any], where: str, level: int) -> None:
    """`items`, and the older drafts' list of them with `additionalItems` for the rest."""
    items = schema.get("items")
    if isinstance(items, list | tuple):
        if "prefixItems" in schema:
            raise _refused(where, "'prefixItems' and 'items' as a list say the same in two drafts; keep the former")
        copy["prefixItems"] = _list(items, f"{where}/items", level)
        if "additionalItems" in schema:
            copy["items"] = _schema(schema["additionalItems"], f"{where}/additionalItems", level + 1)
    elif "items" in schema:
        copy["items"] = _schema(items, f"{where}/items", level + 1)


def _format(schema: Mapping[str, Any], copy: dict[str, Any], where: str) -> None:
    if "format" not in schema:
        return
    name = schema["format"]
    if not isinstance(name, str) or name not in FORMATS:
        raise _refused(where, f"format {name!r:.80} cannot be enforced: {nearest(str(name), FORMATS)}")
    copy["allOf"] = [*copy.get("allOf", ()), FORMATS[name]]


def _least_properties(schema: Mapping[str, Any], where: str) -> None:
    """A name may be written twice, so counting properties would count it twice: only required ones are sure."""
    least, required = schema.get("minProperties", 0), schema.get("required", [])
    sure = len(set(required)) if isinstance(required, list) and all(isinstance(name, str) for name in required) else 0
    if isinstance(least, bool) or not isinstance(least, int) or not 0 <= least <= sure:
        raise _refused(where, f"'minProperties' can be enforced up to the number of 'required' properties, {sure}")


def _escaped(name: Any) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")[:80]


def _refused(where: str, why: str) -> SettingError:
    return SettingError(f"json_schema, at {where}: {why}")
