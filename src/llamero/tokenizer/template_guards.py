"""The operators and methods a chat template may use on plain values, each bounded before it runs.

Every function asks the `Budget` for the size of its result. A method that is not listed is refused.
Knows nothing of chats, files or filters. Imports jinja2, so only the sandbox may import it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from llamero.tokenizer.template_budget import Budget, LimitReached

_OF_TEXT = """
    capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit
    islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix
    replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title
    upper zfill
"""
METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_OF_TEXT.split()),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    float: frozenset({"is_integer"}),
}
STRIP_SET = 64  # characters a strip may look for
WIDEST = 9999  # columns of a formatted field
BACKWARD = 100_000_000  # length × length of a search from the right, which is quadratic


@dataclass(frozen=True, repr=False, eq=False)
class Method:
    """A permitted method of a plain value, bound to it; the sandbox calls `run` with the budget of the rendering."""

    owner: Any
    name: str

    def __repr__(self) -> str:
        return f"<method {self.name}>"

    def run(self, budget: Budget, env: SandboxedEnvironment, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The method's result, after its size was found to be in bounds."""
        budget.step()
        for value in (*args, *kwargs.values()):
            budget.weigh(value)
        if isinstance(self.owner, str):
            return budget.take(self._of_string(budget, env, args, kwargs))
        if self.name in ("count", "index"):
            budget.weigh(self.owner)
        return budget.take(getattr(self.owner, self.name)(*args, **kwargs))

    def _of_string(
        self, budget: Budget, env: SandboxedEnvironment, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        text: str = self.owner
        if self.name == "format":
            return BoundedFormatter(budget, env).vformat(text, args, kwargs)
        if self.name == "join" and len(args) == 1:
            args = (joinable(budget, text, args[0]),)
        check = _STRING_CHECKS.get(self.name)
        if check is not None:
            check(budget, text, *args, **kwargs)
        budget.make(len(text) // 8)
        return getattr(text, self.name)(*args, **kwargs)


def method(value: Any, name: str) -> Method | None:
    """The permitted method `name` of a plain value, if there is one."""
    for kind, names in METHODS.items():
        if isinstance(value, kind):
            return Method(value, name) if name in names else None
    return None


def check_replace(budget: Budget, text: str, old: Any = "", new: Any = "", *_: Any, **__: Any) -> None:
    """Pay for a replacement that may make the text much longer."""
    if isinstance(old, str) and isinstance(new, str):
        budget.make(len(text) + text.count(old) * len(new))


def check_width(budget: Budget, text: str, width: Any = 0, *_: Any, **__: Any) -> None:
    """Pay for padding to `width` columns."""
    if isinstance(width, int):
        budget.make(max(width, len(text)))


def _check_pieces(budget: Budget, text: str, sep: Any = None, maxsplit: Any = -1, *_: Any, **__: Any) -> None:
    most = budget.limits.items
    pieces = text.count(sep) + 1 if isinstance(sep, str) and sep else len(text.split(None, most))
    if isinstance(maxsplit, int) and maxsplit >= 0:
        pieces = min(pieces, maxsplit + 1)
    budget.make(len(text))
    budget.room_for(pieces)


def _check_lines(budget: Budget, text: str, *_: Any, **__: Any) -> None:
    budget.make(len(text))
    budget.room_for(sum(text.count(end) for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029") + 1)


def _check_backward(budget: Budget, text: str, part: Any = "", *_: Any, **__: Any) -> None:
    if isinstance(part, str) and len(part) * len(text) > BACKWARD:
        raise LimitReached("it searches a long text from the right for a long text")
    budget.make(len(text) // 8)


def _check_rsplit(budget: Budget, text: str, sep: Any = None, *args: Any, **kwargs: Any) -> None:
    _check_backward(budget, text, sep)
    _check_pieces(budget, text, sep, *args, **kwargs)


def check_strip(budget: Budget, text: str, chars: Any = None, *_: Any, **__: Any) -> None:
    """Refuse to strip by so many characters that the search would be slow."""
    if isinstance(chars, str) and len(chars) > STRIP_SET:
        raise LimitReached(f"it strips more than {STRIP_SET} kinds of characters")
    budget.make(len(text) // 8)


_STRING_CHECKS: Mapping[str, Callable[..., None]] = {
    "replace": check_replace,
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), check_width),
    "split": _check_pieces,
    "rsplit": _check_rsplit,
    "splitlines": _check_lines,
    **dict.fromkeys(("rfind", "rindex", "rpartition"), _check_backward),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), check_strip),
}


def joinable(budget: Budget, separator: str, values: Any) -> list[Any]:
    """The values to be joined as a list, after the length of the joined text was paid for."""
    items = bounded_list(budget, values)
    weight = budget.weigh(items)
    budget.make(weight.characters + len(separator) * len(items))
    return items


def bounded_list(budget: Budget, values: Any) -> list[Any]:
    """All items of an iterable, as long as they are few enough."""
    taken: list[Any] = []
    for value in values:
        budget.step()
        taken.append(value)
        if len(taken) > budget.limits.items:
            raise LimitReached(f"it made a list of more than {budget.limits.items:,} items")
    return taken


class BoundedFormatter(SandboxedFormatter):
    """`str.format` whose fields go through the sandbox, stay narrow and are paid for."""

    def __init__(self, budget: Budget, env: SandboxedEnvironment) -> None:
        super().__init__(env)
        self._budget = budget

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """`!r` and `!s`, which write a whole value."""
        self._budget.make(self._budget.weigh(value).characters)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        """The value in its format."""
        self._budget.make(_columns(format_spec))
        self._budget.make(self._budget.weigh(value).characters)
        text = super().format_field(value, format_spec)
        self._budget.make(len(text))
        return text


def _columns(spec: str) -> int:
    """How wide a field of this format can be; refuses more than `WIDEST` columns, and a width that is a value."""
    numbers = re.findall(r"[0-9]+", spec)
    if "*" in spec or any(len(number) > 6 or int(number) > WIDEST for number in numbers):
        raise LimitReached(f"it formats a field that may be wider than {WIDEST} columns")
    return sum(map(int, numbers))


def percent(budget: Budget, text: str, values: Any) -> str:
    """`text % values`, with narrow fields only.

    A field is looked for at every percent sign, with and without a key in brackets: more places than printf sees,
    never fewer.
    """
    budget.make(len(text))
    if re.search(r"%\([^)]*\(", text):
        raise LimitReached("it formats with a key that holds a bracket")
    for keyed, bare in re.findall(r"%(?=\([^()]*\)([^a-zA-Z%]*))?(?=([^a-zA-Z%]*))", text):
        budget.make(max(_columns(keyed), _columns(bare)))
    budget.make(text.count("%") * (budget.weigh(values).characters + 24))
    written: str = text % values
    return written


def binary(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """One of + - * / // % ** on plain values, after the size of its result was found to be in bounds."""
    budget.step()
    if sign == "%" and isinstance(left, str):
        return percent(budget, left, right)
    if sign == "+" and _sized(left) and _sized(right):
        _pay(budget, left, len(left) + len(right))
    elif sign == "*" and _sized(left) and isinstance(right, int):
        _pay(budget, left, len(left) * max(right, 0))
    elif sign == "*" and _sized(right) and isinstance(left, int):
        _pay(budget, right, len(right) * max(left, 0))
    elif sign == "**" and isinstance(left, int) and isinstance(right, int) and abs(left) > 1 and abs(right) > 64:
        raise LimitReached("it raises a number to a power above 64")
    elif not isinstance(left, int | float | str | list | tuple):
        budget.weigh(left)
        budget.weigh(right)  # keys() - [...] hashes it
    result = _OPERATORS[sign](left, right)
    return result if _sized(result) else budget.take(result)


def _sized(value: Any) -> bool:
    return isinstance(value, str | list | tuple)


def _pay(budget: Budget, kind: Any, length: int) -> None:
    if isinstance(kind, str):
        budget.make(length)
    else:
        budget.room_for(length)


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
