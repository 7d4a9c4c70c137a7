"""Rewrites a template's tree so that what jinja2 would compile to bare Python is paid for.

Loop turns, the template's own text, comparisons, joined texts and slices go through filters whose names no template can
write. Knows the shape of templates, nothing of what they are for. Imports jinja2, so only the sandbox may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.runtime import Context, str_join
from jinja2.visitor import NodeTransformer

from llamero.tokenizer.template_budget import LimitReached, Limits
from llamero.tokenizer.template_filters import budget_of


class Meter(NodeTransformer):
    """Rewrites a template's tree so that all work that jinja2 compiles to bare Python goes through a filter of ours."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.body = [_statement(1, node.lineno), *node.body]
        if node.test is not None:
            node.test = _through("!turn", node.test)
        return node

    def visit_Output(self, node: nodes.Output) -> list[nodes.Node]:
        """Text of the template itself is paid when written: a loop may write it many times."""
        self.generic_visit(node)
        static = sum(len(part.data) for part in node.nodes if isinstance(part, nodes.TemplateData))
        return [_statement(static, node.lineno), node] if static else [node]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _through("!concat", *node.nodes)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        self.generic_visit(node)
        node.expr = _through("!compared", node.expr)
        for operand in node.ops:
            looked_into = operand.op in ("in", "notin")
            operand.expr = _through("!searched" if looked_into else "!compared", operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        """Keys of a written mapping are hashed."""
        self.generic_visit(node)
        node.key = _through("!compared", node.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice) or not isinstance(node.node, nodes.Expr):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _through("!cut", node.node, *(nodes.Const(None) if bound is None else bound for bound in bounds))

    def visit_Const(self, node: nodes.Const) -> nodes.Const:
        if isinstance(node.value, int) and abs(node.value) >= self._limits.integer:
            raise LimitReached("it has a whole number of more than 63 bits")
        return node

    def _loads(self, node: nodes.Node) -> nodes.Node:
        raise TemplateSyntaxError("a chat template cannot load other templates", node.lineno)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _loads


def _through(name: str, first: nodes.Node, *rest: nodes.Expr) -> nodes.Expr:
    """An expression passed through one of our filters; a constant needs no passing unless it is joined or cut."""
    if name in ("!compared", "!searched") and isinstance(first, nodes.Const):
        return first
    return nodes.Filter(first, name, list(rest), [], None, None, lineno=first.lineno)


def _statement(count: int, line: int) -> nodes.Stmt:
    """A statement that pays for a turn of a loop, or for so many characters of the template's own text."""
    pay = nodes.Filter(nodes.Const(None), "!turn", [nodes.Const(count)], [], None, None, lineno=line)
    return nodes.ExprStmt(pay, lineno=line)


def looped(tree: nodes.Template) -> frozenset[str]:
    """The last names of the things that a template's loops run over."""
    found = set()
    for loop in tree.find_all(nodes.For):
        if isinstance(loop.iter, nodes.Getattr):
            found.add(loop.iter.attr)
        elif isinstance(loop.iter, nodes.Getitem) and isinstance(loop.iter.arg, nodes.Const):
            found.add(str(loop.iter.arg.value))
        elif isinstance(loop.iter, nodes.Name):
            found.add(loop.iter.name)
    return frozenset(found)


@pass_context
def concat(context: Context, *parts: Any) -> str:
    """`a ~ b ~ c`."""
    budget = budget_of(context)
    budget.make(sum(budget.weigh(part).characters for part in parts))
    return str_join(parts)


@pass_context
def cut(context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`value[start:stop:step]`."""
    return budget_of(context).take(value[start:stop:step])


@pass_context
def compared(context: Context, value: Any) -> Any:
    """A value that is about to be compared; lists are weighed first."""
    if not isinstance(value, int | float | None):
        budget_of(context).weigh(value)
    return value


@pass_context
def searched(context: Context, value: Any) -> Any:
    """A value that `in` is about to look into; only lists take a walk."""
    if not isinstance(value, dict):
        budget_of(context).weigh(value)
    return value


@pass_context
def turn(context: Context, value: Any, count: int = 1) -> Any:
    """One turn of a loop, or text of the template about to be written `count` characters long."""
    budget_of(context).make(count)
    return value


INNER: Mapping[str, Callable[..., Any]] = {
    "!turn": turn,
    "!concat": concat,
    "!compared": compared,
    "!searched": searched,
    "!cut": cut,
}
"""The filters that the rewritten tree calls."""
