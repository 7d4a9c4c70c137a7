"""The form that an answer is asked to have: JSON, a JSON schema, a regular expression, a grammar. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from llamero.errors import SettingError, nearest

Schema: TypeAlias = Mapping[str, Any] | bool
"""A JSON schema; True is any JSON."""

FormKind = Literal["json_object", "json_schema", "regex", "grammar"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form that a whole answer has. Raises SettingError for a kind or a source that is none.

    source: None for json_object (any JSON object); the schema, as a mapping (or True, anything) for json_schema; the
    expression, which the whole answer matches, for regex; Lark as llguidance reads it, or llama.cpp's GBNF, for
    grammar.
    """

    kind: FormKind
    source: str | Schema | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FormKind):
            raise SettingError(f"form {self.kind!r} is unknown: {nearest(str(self.kind), get_args(FormKind))}")
        wanted: dict[str, tuple[type | tuple[type, ...], str]] = {
            "json_object": (type(None), "nothing"),
            "json_schema": ((Mapping, bool), "a JSON schema as a mapping"),
            "regex": (str, "a regular expression as text"),
            "grammar": (str, "a grammar as text"),
        }
        kinds, what = wanted[self.kind]
        if not isinstance(self.source, kinds):
            raise SettingError(f"{self.kind} takes {what}, got {type(self.source).__name__}")


def form_of(*, json_schema: Schema | None = None, regex: str | None = None, grammar: str | None = None) -> Form | None:
    """The form that one of three options gives; None for none of them. Raises SettingError for several."""
    options: dict[FormKind, str | Schema | None] = {"json_schema": json_schema, "regex": regex, "grammar": grammar}
    given = [(kind, source) for kind, source in options.items() if source is not None]
    if len(given) > 1:
        raise SettingError(f"{given[0][0]} and {given[1][0]} are two forms; an answer has one")
    return Form(kind=given[0][0], source=given[0][1]) if given else None
