"""The sandbox in which chat templates run: plain values in, one text out, nothing else reachable, and bounded.

Templates come from strangers. Beyond jinja2's immutable sandbox, a template can only call what is listed here and in
`template_guards`/`template_filters`; its tree is rewritten so that every loop turn, comparison, slice and joined text
pays a `Budget`. Knows nothing of chats, roles or tokens. Imports jinja2, so it is imported only when needed.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from llamero.errors import TemplateError
from llamero.tokenizer import template_filters
from llamero.tokenizer.template_budget import Budget, LimitReached, Limits
from llamero.tokenizer.template_filters import BUDGET, budget_of
from llamero.tokenizer.template_guards import Method, binary, method
from llamero.tokenizer.template_meter import INNER, Meter, looped

PLAIN = (str, list, tuple, dict, int, float, range, type(None))
FILENAME = "<chat template>"
LONGEST_DATE_FORMAT = 64
_HIDDEN = ("_loop_vars", "_block_vars", "caller")  # keywords that jinja2 itself adds to a call


class Refusal(Exception):
    """The template called raise_exception."""


class Compiled:
    """A template ready to be rendered any number of times, from any number of threads.

    Attributes: `loops_over`, the last names of what its loops run over (`x.content` gives "content"); `tests`, the
    names of the tests it makes. They tell which form of input a template is written for.
    """

    def __init__(self, source: str, *, name: str, limits: Limits | None = None) -> None:
        """Parse and compile `source`; `name` is what errors call it.

        Errors: TemplateError for syntax, unknown filters, and templates that are too large or load other files.
        """
        self._name = name
        self._limits = limits or Limits()
        if len(source) > self._limits.source:
            raise self._error(f"it is {len(source):,} characters long; at most {self._limits.source:,} are allowed")
        try:
            environment = _Environment(self._limits)
            tree = environment.parse(source)
            self.loops_over = looped(tree)
            self.tests = frozenset(test.name for test in tree.find_all(nodes.Test))
            code = environment.compile(Meter(self._limits).visit(tree), filename=FILENAME)
            self._template = Template.from_code(environment, code, environment.globals)
        except Exception as error:
            raise self._explain(error) from error

    def render(self, variables: Mapping[str, Any], *, now: datetime | None = None) -> str:
        """The text for these variables, which must be plain values; `now` is the time a template is told.

        Errors: TemplateError when the template refuses the input, fails, reaches for something forbidden or
        exceeds a limit.
        """
        budget = Budget(self._limits, now or datetime.now())
        try:
            budget.allow_for(list(variables.values()))
            context = self._template.new_context({**variables, BUDGET: budget})
            return "".join(self._template.root_render_func(context))
        except Exception as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> TemplateError:
        """Our error for whatever went wrong inside."""
        if isinstance(error, Refusal):
            return TemplateError(f"{self._name} refuses these messages: {error}")
        if isinstance(error, RecursionError | SyntaxError | MemoryError):  # of Python, which runs what jinja2 wrote
            return self._error("it is nested too deeply")
        if isinstance(error, TemplateSyntaxError):
            return self._error(error.message or "syntax error", error.lineno)
        where = self._line(error)
        if isinstance(error, LimitReached | JinjaError):
            return self._error(str(error), where)
        return self._error(f"{type(error).__name__}: {error}", where)

    def _line(self, error: Exception) -> int | None:
        """The template's line that was running."""
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILENAME]
        line = frames[-1].lineno if frames else None
        return None if line is None else self._template.get_corresponding_lineno(line)

    def _error(self, what: str, line: int | None = None) -> TemplateError:
        place = f", line {line}" if line else ""
        return TemplateError(f"{self._name}{place}: {what[:2000]}")


class _Environment(ImmutableSandboxedEnvironment):
    """jinja2 with the options chat templates are written for, and only what we allow."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_written,
            cache_size=0,
            extensions=[LoopControlExtension, _GenerationTag, _LexemeCount],
        )
        self.limits = limits
        self.filters.clear()
        self.filters.update({**template_filters.filters(), **INNER})
        self.tests.update(template_filters.tests())
        self.globals.clear()
        self.globals.update(_GLOBALS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`: a permitted method of a plain value, or what jinja2's sandbox allows."""
        return method(obj, attribute) or super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`."""
        if isinstance(argument, list | tuple | dict):
            return self.undefined(obj=obj, name=repr(type(argument)))
        try:
            return obj[argument]
        except (TypeError, LookupError):
            found = method(obj, argument) if isinstance(argument, str) else None
            return found or super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Plain values have no attributes but the permitted methods (and the names of a grouped pair)."""
        if isinstance(obj, tuple) and attr in ("grouper", "list"):
            return True
        if isinstance(obj, PLAIN) or not isinstance(obj, Namespace | LoopContext | Macro):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Reaching for a forbidden attribute ends the rendering (jinja2 alone would write nothing and go on)."""
        if isinstance(obj, Undefined):
            raise UndefinedError(f"{obj._undefined_name!r:.80} is undefined")
        raise SecurityError(f"the attribute {attribute!r:.80} of a {type(obj).__name__} is out of bounds")

    def is_safe_callable(self, obj: Any) -> bool:
        """The functions we gave, and the methods of a loop."""
        owner = getattr(obj, "__self__", None)
        return isinstance(owner, LoopContext) or any(obj is known for known in _GLOBALS.values())

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call something, paying for it and for its depth."""
        budget = budget_of(__context)
        budget.step()
        if isinstance(__obj, Method):
            return __obj.run(budget, __self, args, {key: kwargs[key] for key in kwargs if key not in _HIDDEN})
        if not isinstance(__obj, Macro | LoopContext | BlockReference | Undefined):
            if not __self.is_safe_callable(__obj):
                raise SecurityError(f"a value of type {type(__obj).__name__} cannot be called here")
            for value in (*args, *(kwargs[key] for key in kwargs if key not in _HIDDEN)):
                budget.weigh(value)
        budget.enter()
        try:
            return budget.take(__context.call(__obj, *args, **kwargs))
        finally:
            budget.leave()

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A filter that another one (map) names; those of the meter cannot be named."""
        if name in INNER:
            raise SecurityError(f"No filter named {name!r:.80}.")
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An arithmetic sign between two values."""
        return binary(budget_of(context), operator, left, right)


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`, with which templates mark the assistant's words; it changes no text."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own way)

    def parse(self, parser: Parser) -> nodes.Node:
        """The marked part, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _LexemeCount(Extension):
    """Refuses a template of too many lexemes before it is parsed: compiling one takes some 20 µs each."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        """The same lexemes, counted."""
        return self._counted(stream)

    def _counted(self, stream: TokenStream) -> Iterator[Token]:
        limits: Limits = self.environment.limits  # type: ignore[attr-defined]
        for count, token in enumerate(stream):
            if count > limits.lexemes:
                raise LimitReached(f"it has more than {limits.lexemes:,} lexemes")
            yield token


class _Names(Namespace):
    """`namespace(...)`: holds values under ordinary names only, and is never written out."""

    def __setitem__(self, name: str, value: Any) -> None:
        _check_names((name,))
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _check_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str) or name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold the name {name!r}")


def _namespace(*args: Any, **kwargs: Any) -> Namespace:
    values = dict(*args, **kwargs)
    _check_names(values)
    return _Names(values)


def _range(*bounds: int) -> range:
    return range(*bounds)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _raise_exception(message: Any = "") -> None:
    raise Refusal(str(message))


@pass_context
def _strftime_now(context: Context, format_: str) -> str:
    if not isinstance(format_, str) or len(format_) > LONGEST_DATE_FORMAT:
        raise LimitReached("strftime_now: the format must be a short text")
    return budget_of(context).now.strftime(format_)


@pass_context
def _written(context: Context, value: Any) -> Any:
    """What jinja2 is about to turn into output text, paid for."""
    budget = budget_of(context)
    budget.make(len(value) if isinstance(value, str) else budget.weigh(value).characters)
    return value


_GLOBALS = {
    "range": _range,
    "dict": _dict,
    "namespace": _namespace,
    "raise_exception": _raise_exception,
    "strftime_now": _strftime_now,
}
