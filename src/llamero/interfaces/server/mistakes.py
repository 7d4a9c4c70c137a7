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
    """
    error = max(errors, key=lambda each: (each["type"] in _CODES, len(_place(each, body))))
    context = error.get("ctx", {})
    if error["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {context.get('error', error['msg'])}", code="invalid_json")
    param = _path([*_place(error, body), *([context["param"]] if "param" in context else [])])
    said = str(error["msg"])
    words = said if "param" in context else f"{param or 'the body'}: {said[:1].lower()}{said[1:]}"
    return Refusal(400, words, code=_CODES.get(error["type"], "invalid_value"), param=param or None)


def _place(error: Error, body: Any) -> list[str | int]:
    """Where in the body the mistake is: the steps of its location that are there, less the names of forms."""
    steps: list[str | int] = []
    where = error["loc"][1:] if error["loc"][:1] == ("body",) else error["loc"]
    for number, step in enumerate(where):
        inside = body.keys() if isinstance(body, dict) else range(len(body)) if isinstance(body, list) else ()
        if step in inside:
            body = body[step]
        elif not (error["type"] == "missing" and number == len(where) - 1):
            continue
        steps.append(step)
    return steps


def _path(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
