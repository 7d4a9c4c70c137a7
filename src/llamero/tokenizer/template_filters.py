"""The filters and tests a chat template may use, each paying the `Budget` of its rendering.

Most are jinja2's own behind a check of the sizes they would make; those that could run away are ours. All take the
context first, so nothing is computed while a template is compiled. A filter that is not listed does not exist.
Knows nothing of chats or files. Imports jinja2, so only the sandbox may import it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Undefined, pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS

from llamero.tokenizer.template_budget import Budget, LimitReached
from llamero.tokenizer.template_guards import bounded_list, check_replace, check_strip, check_width, joinable, percent

BUDGET = "!budget"
"""Where the context keeps the budget; not a name that a template can write."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TEXT = _words("capitalize e escape forceescape lower safe string title upper")
_LAZY = _words("map reject rejectattr select selectattr batch slice items reverse first last list")
_WHOLE = _words("dictsort groupby max min sort sum unique")
_PLAIN = _words("abs count d default float int length round truncate center indent trim")
_DEEP_TESTS = _words("== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in lower upper")
_LONGEST_NUMBER = 4300  # digits
_LONGEST_TITLE = 200_000  # characters
_MOST_COLUMNS = 10_000  # of batch and slice
_LONGEST_PATH = 64  # dots in an attribute path


def budget_of(context: Context) -> Budget:
    """The budget of the rendering a context belongs to."""
    budget: Budget = context.parent[BUDGET]
    return budget


def filters() -> dict[str, Callable[..., Any]]:
    """Every filter a template may name."""
    table = {name: _guarded(name, FILTERS[name]) for name in (*_TEXT, *_LAZY, *_WHOLE, *_PLAIN)}
    return table | {"format": _format, "join": _join, "replace": _replace, "tojson": tojson}


def tests() -> dict[str, Callable[..., Any]]:
    """Every test a template may name (all of jinja2's)."""
    table: dict[str, Any] = {**TESTS}
    return table | {name: _guarded_test(table[name]) for name in _DEEP_TESTS}


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """jinja2's filter behind the check of its kind; an iterator it returns is taken whole, within bounds."""
    kind = getattr(getattr(function, "jinja_pass_arg", None), "name", "")
    check = _CHECKS.get(name)

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = budget_of(context)
        budget.step()
        if name in _LAZY:
            value = _countable(budget, value, (*args, *kwargs.values()))
        elif name in _WHOLE:
            value = _weighed(budget, value, (*args, *kwargs.values()))
        elif name not in ("d", "default", "count", "length"):
            budget.weigh(value)
        if check is not None:
            check(budget, value, *args, **kwargs)
        result = function(*_leading(context, kind), value, *args, **kwargs)
        if isinstance(result, Iterator) and name not in ("d", "default", "first", "last"):
            return bounded_list(budget, result)
        return budget.take(result)

    return run


def _leading(context: Context, kind: str) -> tuple[Any, ...]:
    """What jinja2 passes first to a function of this kind."""
    return {"context": (context,), "eval_context": (context.eval_ctx,), "environment": (context.environment,)}.get(
        kind, ()
    )


def _guarded_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def run(context: Context, value: Any, *args: Any) -> Any:
        budget = budget_of(context)
        budget.step()
        for part in (value, *args):
            budget.weigh(part)
        return function(value, *args)

    return run


def _countable(budget: Budget, value: Any, args: Sequence[Any]) -> Any:
    """A value that is about to be gone through once."""
    if isinstance(value, str | list | tuple | dict | range):
        budget.room_for(len(value))
    for arg in args:
        budget.weigh(arg)
    _check_paths(args)
    return value


def _weighed(budget: Budget, value: Any, args: Sequence[Any]) -> Any:
    """A value whose items are about to be compared with one another."""
    if not isinstance(value, list | tuple | dict | Undefined):
        value = bounded_list(budget, value)
    budget.step(4 * budget.weigh(value).items)
    _check_paths(args)
    return value


def _check_paths(args: Sequence[Any]) -> None:
    if any(isinstance(arg, str) and arg.count(".") > _LONGEST_PATH for arg in args):
        raise LimitReached("it follows an attribute path that is too long")


def _check_indent(budget: Budget, text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    size = len(width) if isinstance(width, str) else width
    if isinstance(text, str) and isinstance(size, int):
        lines = sum(text.count(end) for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029") + 2
        budget.room_for(lines)
        budget.make(lines * max(size, 0))


def _check_columns(_: Budget, __: Any, columns: Any = 1, *args: Any, **kwargs: Any) -> None:
    del args
    for count in (columns, kwargs.get("linecount"), kwargs.get("slices")):
        if isinstance(count, int) and count > _MOST_COLUMNS:
            raise LimitReached(f"it arranges a list in more than {_MOST_COLUMNS:,} columns")


def _check_number(_: Budget, value: Any, *__: Any, **___: Any) -> None:
    if isinstance(value, str) and len(value) > _LONGEST_NUMBER:
        raise LimitReached(f"it reads a number of more than {_LONGEST_NUMBER:,} digits")


def _check_round(_: Budget, __: Any, precision: Any = 0, *___: Any, **____: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 100:
        raise LimitReached("it rounds to more than 100 digits")


def _check_sum(_: Budget, __: Any, attribute: Any = None, start: Any = 0) -> None:
    del attribute
    if not isinstance(start, int | float):
        raise LimitReached("it sums something other than numbers")


def _check_title(_: Budget, value: Any) -> None:
    if isinstance(value, str) and len(value) > _LONGEST_TITLE:
        raise LimitReached(f"it makes a title of more than {_LONGEST_TITLE:,} characters")


_CHECKS: Mapping[str, Callable[..., None]] = {
    "batch": _check_columns,
    "center": check_width,
    "float": _check_number,
    "indent": _check_indent,
    "int": _check_number,
    "round": _check_round,
    "slice": _check_columns,
    "sum": _check_sum,
    "title": _check_title,
    "trim": check_strip,
}


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    """`"%s" | format(x)`."""
    return percent(budget_of(context), value if isinstance(value, str) else str(value), kwargs or args)


@pass_context
def _join(context: Context, value: Any, d: str = "", attribute: str | int | None = None) -> Any:
    """The items' texts with `d` between them."""
    budget = budget_of(context)
    separator = d if isinstance(d, str) else str(d)
    items = bounded_list(budget, value)
    if attribute is not None:
        items = context.environment.filters["map"](context, items, attribute=attribute)
    result = FILTERS["join"](context.eval_ctx, joinable(budget, separator, items), separator)
    return budget.take(result)


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> Any:
    """The text with `old` replaced by `new`."""
    budget = budget_of(context)
    for part in (value, old, new):
        budget.weigh(part)
    text, old, new = (part if isinstance(part, str) else str(part) for part in (value, old, new))
    check_replace(budget, text, old, new)
    return FILTERS["replace"](context.eval_ctx, text, old, new, count)


@pass_context
def tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates expect it: not escaped for HTML, in the value's own order, indented on request."""
    budget = budget_of(context)
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= 16):
        raise LimitReached(f"tojson: the indent must be a number from 0 to 16, not {indent!r}")
    if separators is not None and sum(len(part) for part in separators) > 16:
        raise LimitReached("tojson: the separators are longer than 16 characters")
    weight = budget.weigh(value)
    budget.make(weight.characters + weight.items * (4 + (indent or 0) * weight.depth))
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
