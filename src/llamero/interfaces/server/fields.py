"""What all requests have in common: strict fields, where nothing is ignored. Every dialect's models build on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from llamero.errors import nearest

_TAGS = ("type", "role")


def _no(value: bool) -> bool:
    if value:
        raise PydanticCustomError("not_false", "only false is possible")
    return value


No = Annotated[bool, AfterValidator(_no), WithJsonSchema({"const": False})]
"""False, and not a number that equals it."""


StopText = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    """Fields of exactly these names and types. An unknown one is refused with the nearest valid name.

    Something of another `type` or `role` is told just that, for its fields are other ones, too.
    refused: fields and types that the dialect knows and we do not offer, each with the reason; a field that is null is
    as good as absent.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    refused: ClassVar[Mapping[str, str]] = {}
    _valid: ClassVar[frozenset[str]]
    _kinds: ClassVar[Mapping[str, frozenset[str]]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._valid = frozenset(field.alias or name for name, field in cls.model_fields.items())
        cls._kinds = {tag: words for tag in _TAGS if (words := _words(cls, tag))}

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for tag, kinds in cls._kinds.items():
            if isinstance(kind := given.get(tag), str) and kind not in kinds:
                reason = cls.refused.get(kind) or f"choose from {', '.join(sorted(map(repr, kinds)))}"
                raise PydanticCustomError(
                    "unsupported_kind",
                    "{kind} is not supported: " + reason,
                    {"param": tag, "kind": repr(kind[:80])},
                )
        if given.keys() <= cls._valid:
            return given
        for name, value in given.items():
            if name in cls.refused and value is not None:
                raise PydanticCustomError(
                    "unsupported_parameter", "'{param}' is not supported: " + cls.refused[name], {"param": name}
                )
            if name not in cls._valid and name not in cls.refused:
                short = str(name)[:80]
                raise PydanticCustomError(
                    "unknown_parameter", "unknown field '{param}': " + nearest(short, cls._valid), {"param": short}
                )
        return {name: value for name, value in given.items() if name not in cls.refused}


def _words(model: type[BaseModel], tag: str) -> frozenset[str]:
    """What the field may say, where it is one of a few words."""
    field = model.model_fields.get(tag)
    parts = [field.annotation, *get_args(field.annotation)] if field else []
    return frozenset(word for part in parts if get_origin(part) is Literal for word in get_args(part))


class Shape(BaseModel):
    """A part of an answer, as the OpenAPI document describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def given(**fields: Any) -> dict[str, Any]:
    """Those fields that have a value; of what is not given, whoever takes them knows the default."""
    return {name: value for name, value in fields.items() if value is not None}
