"""How much meets in one place of a JSON schema: what `allOf` joins, or stands beside a `$ref`, is multiplied out.

llguidance joins patterns into one, and each alternative of one `anyOf` with each of another: 20 patterns took it 17 s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from llamero.errors import SettingError

_PATTERNS = 10  # that may meet in one value
_CHOICES = 8  # anyOf and oneOf that may meet in one value
_PARTS = 100_000  # schemas looked at in all, each from every place that joins it: 0.3 s
_DEPTH = 6  # properties within properties that are told apart
_SAME = ("allOf", "anyOf", "oneOf")  # their schemas are of the same value
_INERT = frozenset({"$defs", "definitions"})

Path: TypeAlias = tuple[str, ...]


def check_meetings(root: Any) -> None:
    """Raise SettingError where more meets than can be worked out quickly. root: a schema in enforced words."""
    budget = iter(range(_PARTS))
    for schema in _schemas(root):
        joined = len(schema.get("allOf", ())) + len(schema.keys() - _INERT - {"allOf"})
        if ("allOf" in schema or "$ref" in schema) and joined > 1:
            _check(schema, root, budget)


def _check(schema: Mapping[str, Any], root: Any, budget: Iterator[int]) -> None:
    patterns: Counter[Path] = Counter()
    choices: Counter[Path] = Counter()
    for path, part in _parts(schema, root):
        if next(budget, None) is None:
            raise SettingError("json_schema: too much is joined through 'allOf' or '$ref' to be checked")
        patterns[path] += ("pattern" in part) + ("format" in part)
        choices[path] += ("anyOf" in part) + ("oneOf" in part)
    for counts, most, what in ((patterns, _PATTERNS, "patterns"), (choices, _CHOICES, "choices")):
        for path, count in counts.items():
            anywhere = counts[(*path[:-1], "*")] if path and path[-1] != "*" else 0
            if count + anywhere > most:
                where = "".join(f" of {name!r:.80}" for name in reversed(path))
                raise SettingError(
                    f"json_schema: {count + anywhere} {what} meet in one value{where}, through 'allOf' or '$ref'; at "
                    f"most {most} can be joined"
                )


def _parts(schema: Mapping[str, Any], root: Any) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every schema that bears on a value or a part of it, with the part's names; "*" is any name or place.

    A reference is not followed from inside of what it refers to.
    """
    waiting: list[tuple[Path, Any, frozenset[str]]] = [((), schema, frozenset())]
    while waiting:
        path, part, followed = waiting.pop()
        if not isinstance(part, Mapping) or len(path) > _DEPTH:
            continue
        yield path, part
        pointer = part.get("$ref")
        if isinstance(pointer, str) and pointer not in followed:
            waiting.append((path, _at(root, pointer), followed | {pointer}))
        waiting += [((*path, *name), each, followed) for name, each in _inner(part)]


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The schemas right inside of one, each with the name of its part; () for those of the same value."""
    yield from (((), each) for word in _SAME for each in schema.get(word, ()))
    yield from (((name,), each) for name, each in schema.get("properties", {}).items())
    yield from ((("*",), each) for each in schema.get("patternProperties", {}).values())
    yield from ((("*",), each) for each in schema.get("prefixItems", ()))
    yield from ((("*",), schema[word]) for word in ("additionalProperties", "items") if word in schema)


def _schemas(root: Any) -> Iterator[Mapping[str, Any]]:
    """Every schema in a schema."""
    waiting = [root]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, Mapping):
            yield schema
            waiting += [each for _, each in _inner(schema)]
            waiting += [each for word in _INERT for each in schema.get(word, {}).values()]


def _at(root: Any, pointer: str) -> Any:
    """What a reference within the schema points to; None for any other."""
    found = root
    for name in pointer.removeprefix("#").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found
