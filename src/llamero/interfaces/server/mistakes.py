"""What pydantic finds wrong with a request, as one refusal that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from llamero.interfaces.server.refusals import Refusal

Error: TypeAlias = Mapping[str, Any]

_CODES = {
    "unsupported_parameter": "unsupported_parameter",
    "unknown_parameter": "unknown_parameter",
    "missing": "missing_required_parameter",
}


def mistake(errors: Sequence[Error], body: Any) -> Refusal:
    """The refusal for one thing that is wrong.

    Where a field may have one of several forms, each of them has its complaint; the one that got farthest is told.
    Something of a wrong type is not told what it lacks.
    """
    error = max(errors, key=lambda each: (_of_wrong_type(each), each["type"] in _CODES, len(_place(each, body))))
    context = error.get("ctx", {})
    if error["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {context.get('error', error['msg'])}", code="invalid_json")
    place, said = _place(error, body), str(error["msg"])
    param = _path([*place, *([context["param"]] if "param" in context else [])])
    where = _path(place) or ("" if "param" in context else "the body")
    words = f"{where}: {said[:1].lower()}{said[1:]}" if where else said
    return Refusal(400, words, code=_CODES.get(error["type"], "invalid_value"), param=param or None)


def _of_wrong_type(error: Error) -> bool:
    return error["type"] in ("literal_error", "union_tag_invalid") and error["loc"][-1:] == ("type",)


def _place(error: Error, body: Any) -> list[str | int]:
    """Where in the body the mistake is: the steps of its location that are there, less the names of forms."""
    steps: list[str | int] = []
    where = error["loc"][1:] if error["loc"][:1] == ("body",) else error["loc"]
    for number, step in enumerate(where):
        if _inside(step, body):
            body = body[step]
        elif not (error["type"] == "missing" and number == len(where) - 1):
            continue
        steps.append(step)
    return steps


def _inside(step: str | int, body: Any) -> bool:
    if isinstance(body, list):
        return isinstance(step, int) and step < len(body)
    return isinstance(body, dict) and step in body


def _path(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
