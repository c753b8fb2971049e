"""Conditions on axes and parameters, as in `where="l >= k"`.

The text is parsed with `ast` and compiled to closures; nothing of it is ever evaluated as Python.
Allowed are names of axes and parameters, numbers, strings (for choices), comparisons, `and`, `or`,
`not`, and `+ - * // %`.
"""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Evaluate = Callable[[Mapping[str, Any]], Any]

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ALLOWED = "allowed are axes, parameters, numbers, == != < <= > >=, and or not, + - * // %"


@dataclass(frozen=True)
class Condition:
    """One condition: its text, the names in it, and its truth at given values."""

    text: str
    names: frozenset[str]
    evaluate: Evaluate

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true; a division by zero or a comparison of unlike things is not."""
        try:
            return bool(self.evaluate(values))
        except (ZeroDivisionError, TypeError):
            return False


def parse_condition(text: str | None, known: Iterable[str] | None = None) -> tuple[Condition, ...]:
    """The conditions that `and` joins at the top of a `where`; none for None or "".

    Args:
        text: Such as `"l >= k and p != 0"`.
        known: The axes and parameters that may occur; None allows every name.

    Raises:
        SpecError: If something in the text is not allowed or not known.
    """
    if text is not None and not isinstance(text, str):
        problem = f"where is {text!r}, not text"
        raise SpecError(problem, hint="write something like where='l >= k and p != 0'")
    if text is None or not text.strip():
        return ()
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = f"where={text!r} is not an expression: {getattr(error, 'msg', error)}"
        raise SpecError(problem, hint="write something like where='l >= k and p != 0'") from None
    allowed = None if known is None else tuple(known)
    joined = isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And)
    parts = tree.values if joined and isinstance(tree, ast.BoolOp) else [tree]
    return tuple(_condition(part, text, allowed) for part in parts)


def rename_condition(text: str, names: Mapping[str, str]) -> str:
    """The condition with axes and parameters renamed, as a chain does where it unifies axes."""

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(names.get(node.id, node.id), node.ctx)

    parse_condition(text)
    return ast.unparse(Rename().visit(ast.parse(text.strip(), mode="eval")))


def _condition(tree: ast.expr, text: str, known: tuple[str, ...] | None) -> Condition:
    names: set[str] = set()
    evaluate = _compile(tree, text, names)
    for name in sorted(names):
        if known is not None and name not in known:
            problem = f"where={text!r}: {name!r} is neither an axis nor a parameter"
            raise SpecError(problem, hint=f"known are {', '.join(known) or 'none'}")
    return Condition(ast.unparse(tree), frozenset(names), evaluate)


def _compile(tree: ast.expr, text: str, names: set[str]) -> Evaluate:
    """A closure for one node; `names` collects the names met."""
    match tree:
        case ast.Name(id=name):
            names.add(name)
            return lambda values: values[name]
        case ast.Constant(value=constant) if isinstance(constant, int | float | str):
            return lambda _: constant
        case ast.BoolOp(op=op, values=parts):
            combine = all if isinstance(op, ast.And) else any
            branches = [_compile(part, text, names) for part in parts]
            return lambda values: combine(branch(values) for branch in branches)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _compile(operand, text, names)
            return lambda values: not inner(values)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compile(operand, text, names)
            return lambda values: -inner(values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            apply = _ARITHMETIC[type(op)]
            a, b = _compile(left, text, names), _compile(right, text, names)
            return lambda values: apply(a(values), b(values))
        case ast.Compare(ops=ops) if all(type(op) in _COMPARISONS for op in ops):
            return _comparison(tree, text, names)
    problem = f"where={text!r}: {ast.unparse(tree)!r} is not allowed"
    raise SpecError(problem, hint=_ALLOWED)


def _comparison(tree: ast.Compare, text: str, names: set[str]) -> Evaluate:
    """A chain of comparisons, `1 <= k < n`."""
    operands = [_compile(part, text, names) for part in (tree.left, *tree.comparators)]
    tests = [_COMPARISONS[type(op)] for op in tree.ops]

    def evaluate(values: Mapping[str, Any]) -> bool:
        found = [operand(values) for operand in operands]
        return all(test(found[i], found[i + 1]) for i, test in enumerate(tests))

    return evaluate
