"""What pydantic finds wrong with a request, as one refusal that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from llamero.interfaces.server.refusals import Refusal

Error: TypeAlias = Mapping[str, Any]

_CODES = {
    "unsupported_parameter": "unsupported_parameter",
    "unknown_parameter": "unknown_parameter",
    "unsupported_kind": "invalid_value",
    "missing": "missing_required_parameter",
    "union_tag_not_found": "missing_required_parameter",
    "union_tag_invalid": "invalid_value",
}
_SAY_WHICH = ("unsupported_parameter", "unknown_parameter")  # the words name the field


def mistake(errors: Sequence[Error], body: Any) -> Refusal:
    """The refusal for one thing that is wrong.

    Where a field may have one of several forms, each of them has its complaint; the one that got farthest is told.
    """
    error = max(errors, key=lambda each: _distance(each, body))
    if error["type"] == "json_invalid":
        why = error.get("ctx", {}).get("error", error["msg"])
        return Refusal(400, f"the body is not JSON: {why}", code="invalid_json")
    steps, said = _place(error, body), _said(error)
    where = _path(steps[:-1]) if error["type"] in _SAY_WHICH else _path(steps) or "the body"
    words = f"{where}: {said[:1].lower()}{said[1:]}" if where else said
    return Refusal(400, words, code=_CODES.get(error["type"], "invalid_value"), param=_path(steps) or None)


def _distance(error: Error, body: Any) -> tuple[bool, int, list[int], bool]:
    """How far a form got with a body before this was wrong. One of another type than what is there did not begin."""
    place = _place(error, body)
    items = [step for step in place if isinstance(step, int)]
    return error["type"] in _CODES, len(place), items, not error["type"].endswith("_type")


def _said(error: Error) -> str:
    """What is wrong, without a word of pydantic's own."""
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "input should be an object"
    if error["type"] == "union_tag_not_found":
        return "field required"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        return f"{str(context['tag'])[:80]!r} is not supported: choose from {context['expected_tags']}"
    return str(error["msg"])


def _place(error: Error, body: Any) -> list[str | int]:
    """Where in the body the mistake is: the steps of its location that are there, less the names of forms."""
    where = [*error["loc"], *_named(error)]
    if where[:1] == ["body"]:
        where = where[1:]
    steps: list[str | int] = []
    for number, step in enumerate(where):
        last = number == len(where) - 1
        if not last and _is_tag(step, where[number + 1], body):
            continue
        if _inside(step, body):
            body = body[step]
        elif not (last and error["type"] in ("missing", "union_tag_not_found")):
            continue
        steps.append(step)
    return steps


def _named(error: Error) -> list[str]:
    """The field that an error of the whole object is about."""
    context = error.get("ctx", {})
    named = context.get("param") or str(context.get("discriminator", "")).strip("'")
    return [named] if named else []


def _is_tag(step: str | int, following: str | int, body: Any) -> bool:
    """Whether a step names the form of an object (its type, or its role), and not a field of it with that name."""
    return _inside(following, body) and isinstance(body, dict) and step in (body.get("type"), body.get("role"))


def _inside(step: str | int, body: Any) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, dict) and step in body


def _path(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
