"""Terms as source code, and the place in a file where a term was written."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra import delta, ones
from gradcheck.algebra.compose import relabel
from gradcheck.algebra.notation import einsum
from gradcheck.errors import GradcheckError

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression, Factor, Term
    from gradcheck.diagnosis.numbers import Powers


def code(expression: Expression, letters: tuple[str, ...] | None = None) -> str:
    """An expression as it is written in a spec, one term a line.

    Args:
        expression: Whose summed letters may have long names; they get single ones.
        letters: The output letters to use; its own where left out.
    """
    shown = relabel(expression, letters or expression.output)
    lines = [term_code(t, shown.output) for t in shown.terms]
    if not lines:
        return "0"
    text = lines[0]
    for line in lines[1:]:
        text += f"\n- {line[1:]}" if line.startswith("-") else f"\n+ {line}"
    return text


def term_code(term: Term, output: tuple[str, ...]) -> str:
    """`-einsum("pq,ps,pr->pqrs", "a", "a", delta) / size("m")`."""
    above, below = _magnitude(term.coefficient, term.sizes)
    text = " * ".join([*above, call_code(term, output)])
    return ("-" if term.coefficient < 0 else "") + " / ".join([text, *below])


def call_code(term: Term, output: tuple[str, ...]) -> str:
    """The einsum call of a term, without its coefficient."""
    groups = ["".join(s or "" for s in f.letters) for f in term.factors]
    groups += ["".join(pair) for pair in term.deltas]
    names = [f'"{operand_text(f)}"' for f in term.factors] + ["delta"] * len(term.deltas)
    carried = [s for s in output if not any(s in g for g in groups)]
    if carried or not groups:
        groups.append("".join(carried))
        names.append("ones")
    return f'einsum("{",".join(groups)}->{"".join(output)}", {", ".join(names)})'


def operand_text(factor: Factor) -> str:
    """A factor as an operand is written: `a`, `a**-1`, `exp(a)**(1/2)`."""
    name = factor.name if factor.function is None else f"{factor.function}({factor.name})"
    if factor.power == 1:
        return name
    whole = factor.power.denominator == 1
    return f"{name}**{factor.power}" if whole else f"{name}**({factor.power})"


def _magnitude(coefficient: Fraction, sizes: Powers) -> tuple[list[str], list[str]]:
    """What stands before and after a call: whole numbers and sizes."""
    above = [str(abs(coefficient.numerator))] if abs(coefficient.numerator) != 1 else []
    below = [str(coefficient.denominator)] if coefficient.denominator != 1 else []
    for axis, power in sizes:
        size = abs(power)
        text = f'size("{axis}")'
        if size.denominator != 1:
            text += f" ** Fraction({size.numerator}, {size.denominator})"
        elif size != 1:
            text += f" ** {size}"
        (above if power > 0 else below).append(text)
    return above, below


# ---------------------------------------------------------------------- places in a file


# What stands in one of these may run more than once.
_REPEATED = (
    ast.For, ast.While, ast.FunctionDef, ast.Lambda,
    ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A change of a file's text: characters `start` to `end` become `text`."""

    start: int
    end: int
    text: str


class Unwritable(Exception):
    """Why an edit is printed and not written."""


class Source:
    """The text of a spec file, and where the terms in it are written."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.parents = {c: p for p in ast.walk(self.tree) for c in ast.iter_child_nodes(p)}
        lines = [line + "\n" for line in text.split("\n")]  # the tree knows no other line ends
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self._lines = lines

    def span(self, node: ast.AST) -> tuple[int, int]:
        """A node's first character and the one after its last."""
        first = self._offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        last = self._offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        return first, last

    def _offset(self, line: int, column: int) -> int:
        """Columns of the tree count bytes."""
        encoded = self._lines[line - 1].encode()[:column]
        return self._starts[line - 1] + len(encoded.decode())

    def of(self, node: ast.AST) -> str:
        """A node's text."""
        first, last = self.span(node)
        return self.text[first:last]

    def call(self, term: Term, output: tuple[str, ...]) -> ast.Call:
        """The einsum call that wrote a term, if it wrote this one and no other.

        Raises:
            Unwritable: Where the term has no call of its own.
        """
        line = term.location.line if term.location else 0
        calls = [n for n in ast.walk(self.tree) if _is_einsum(n)]
        found = [
            n
            for n in calls
            if n.lineno <= line <= (n.end_lineno or n.lineno) and _writes(n, term, output)  # type: ignore[attr-defined]
        ]
        if len(found) != 1:
            raise Unwritable("no call of einsum on that line wrote this term and nothing else")
        call = found[0]
        assert isinstance(call, ast.Call)
        self._check_alone(call)
        return call

    def _check_alone(self, call: ast.Call) -> None:
        """A call that runs more than once, or whose value is used more than once, is not edited."""
        node: ast.AST = call
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, _REPEATED):
                raise Unwritable(
                    "the term is made in a loop or a function, which may make others too"
                )
            if isinstance(node, ast.Assign) and not _is_spec(node.value):
                self._check_used_once(node)

    def _check_used_once(self, node: ast.Assign) -> None:
        for target in node.targets:
            name = target.id if isinstance(target, ast.Name) else ""
            uses = [
                n
                for n in ast.walk(self.tree)
                if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
            ]
            if len(uses) != 1:
                raise Unwritable(f"{name or 'its value'} is used in {len(uses)} places")

    def product(self, call: ast.Call) -> ast.expr:
        """The call with the numbers, sizes and minus signs that it is multiplied by."""
        node: ast.expr = call
        while True:
            parent = self.parents[node]
            if (isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.USub)) or (
                isinstance(parent, ast.BinOp)
                and (
                    isinstance(parent.op, ast.Mult)
                    or (isinstance(parent.op, ast.Div) and parent.left is node)
                )
            ):
                node = parent
            else:
                return node

    def value(self, call: ast.Call) -> ast.expr:
        """The whole claim that a call is a term of: a value of a dictionary, or what is assigned."""
        node: ast.AST = call
        while not isinstance(self.parents[node], ast.Dict | ast.Assign | ast.keyword):
            node = self.parents[node]
        assert isinstance(node, ast.expr)
        return node

    def names(self) -> set[str]:
        """The names that the module binds at its top."""
        bound = {
            a.asname or a.name
            for n in self.tree.body
            if isinstance(n, ast.Import | ast.ImportFrom)
            for a in n.names
        }
        return bound | {
            t.id
            for n in self.tree.body
            if isinstance(n, ast.Assign)
            for t in n.targets
            if isinstance(t, ast.Name)
        }


def _is_einsum(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func
    return (isinstance(name, ast.Name) and name.id == "einsum") or (
        isinstance(name, ast.Attribute) and name.attr == "einsum"
    )


def _is_spec(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Spec"


def _writes(node: ast.AST, term: Term, output: tuple[str, ...]) -> bool:
    """Whether a call, read again, gives this term's factors and deltas."""
    assert isinstance(node, ast.Call)
    markers = {"delta": delta, "ones": ones}
    if node.keywords or not node.args or not all(_plain_operand(a) for a in node.args):
        return False
    try:
        values = [a.value if isinstance(a, ast.Constant) else markers[_name(a)] for a in node.args]
        made = einsum(values[0], *values[1:])  # type: ignore[arg-type]
    except (GradcheckError, KeyError):
        return False
    (own,) = made.terms
    tidy = tuple(sorted(map(str, term.factors))), tuple(sorted(term.deltas))
    return (
        made.output == output
        and (tuple(sorted(map(str, own.factors))), tuple(sorted(own.deltas))) == tidy
    )


def _plain_operand(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.Name | ast.Attribute)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


# ---------------------------------------------------------------------- edits as changes of text


def changes(source: Source, before: Expression, after: Expression) -> list[Change]:
    """The changes of the text that turn one claim into the other, term by term.

    Raises:
        Unwritable: Saying why it has to be done by hand.
    """
    old, new = before.terms, after.terms
    if len(new) == len(old) + 1 and new[: len(old)] == old:
        return [_appended(source, before, new[-1])]
    if len(new) == len(old) - 1:
        gone = next(k for k in range(len(old)) if new == (*old[:k], *old[k + 1 :]))
        return [_removed(source, before, old[gone])]
    if len(new) != len(old):
        raise Unwritable("the edit changes and removes terms at once")
    if before.output != after.output:
        raise Unwritable("the edit changes the order of the output letters")
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    found: list[Change] = []
    for a, b in pairs:
        found += _replaced(source, before.output, a, b)
    return found


def _replaced(source: Source, output: tuple[str, ...], old: Term, new: Term) -> list[Change]:
    call = source.call(old, output)
    found = []
    if (old.factors, old.deltas) != (new.factors, new.deltas):
        found += _in_call(source, call, output, old, new)
    ratio = new.coefficient / old.coefficient if old.coefficient else Fraction(0)
    powers = dict(new.sizes)
    for axis, power in old.sizes:
        powers[axis] = powers.get(axis, Fraction(0)) - power
    sizes = tuple(sorted((a, p) for a, p in powers.items() if p))
    if ratio != 1 or sizes:
        found += _multiplied(source, call, ratio, sizes)
    return found


def _in_call(
    source: Source, call: ast.Call, output: tuple[str, ...], old: Term, new: Term
) -> list[Change]:
    """The call's own arguments: only the pattern where only letters change."""
    first = call.args[0]
    same = [str(replace(f, letters=())) for f in old.factors] == [
        str(replace(f, letters=())) for f in new.factors
    ]
    if (
        same
        and len(old.deltas) == len(new.deltas)
        and all(
            len(a.letters) == len(b.letters) for a, b in zip(old.factors, new.factors, strict=True)
        )
    ):
        text = _relettered(call, output, new)
        if text is not None:
            quote = source.of(first)[0]
            return [Change(*source.span(first), f"{quote}{text}{quote}")]
    made = call_code(new, output)
    needed = {n for n in ("delta", "ones") if n in made}
    if needed - source.names():
        raise Unwritable(
            f"import {', '.join(sorted(needed - source.names()))} from gradcheck first"
        )
    head = source.of(call.func)
    return [Change(*source.span(call), head + made.removeprefix("einsum"))]


def _relettered(call: ast.Call, output: tuple[str, ...], new: Term) -> str | None:
    """The pattern with the new letters, operands in the order in which they were written."""
    factors, pairs = iter(new.factors), iter(new.deltas)
    groups = str(call.args[0].value).replace(" ", "").split("->")[0].split(",")  # type: ignore[attr-defined]
    found = []
    for group, operand in zip(groups, call.args[1:], strict=True):
        name = _name(operand) if not isinstance(operand, ast.Constant) else ""
        if name == "ones":
            found.append(group)
        elif name == "delta":
            found.append("".join(next(pairs)))
        else:
            letters = next(factors).letters
            if any(s is None or len(s) > 1 for s in letters):
                return None
            found.append("".join(letters))  # type: ignore[arg-type]
    return f"{','.join(found)}->{''.join(output)}"


def _multiplied(source: Source, call: ast.Call, ratio: Fraction, sizes: Powers) -> list[Change]:
    """The product around a call times a factor: a sign is flipped where it stands."""
    product = source.product(call)
    found = []
    if ratio < 0:
        found.append(_flipped(source, product))
    above, below = _magnitude(ratio, sizes)
    found += _cancelled(source, product, call, above, below)
    needed = {n for n in ("size", "Fraction") if any(n in t for t in (*above, *below))}
    if needed - source.names():
        raise Unwritable(f"import {', '.join(sorted(needed - source.names()))} first")
    end = source.span(product)[1]
    tail = "".join(f" * {t}" for t in above) + "".join(f" / {t}" for t in below)
    if tail:
        found.append(Change(end, end, tail))
    return found


def _cancelled(
    source: Source, product: ast.expr, call: ast.Call, above: list[str], below: list[str]
) -> list[Change]:
    """What the factor cancels is taken away from the text: `/ size("m")` for a factor m."""
    found = []
    node: ast.AST = call
    while node is not product:
        node = source.parents[node]
        if not isinstance(node, ast.BinOp):
            continue
        first = _holds(node.left, call)
        inner, other = (node.left, node.right) if first else (node.right, node.left)
        against = above if isinstance(node.op, ast.Div) else below
        if (text := source.of(other)) in against:
            against.remove(text)
            (a, b), (start, end) = source.span(inner), source.span(node)
            found.append(Change(b, end, "") if first else Change(start, a, ""))
    return found


def _holds(node: ast.AST, call: ast.AST) -> bool:
    return any(n is call for n in ast.walk(node))


def _flipped(source: Source, product: ast.expr) -> Change:
    start, _ = source.span(product)
    parent = source.parents[product]
    leading: ast.AST = product
    while isinstance(leading, ast.BinOp):
        leading = leading.left
    if isinstance(leading, ast.UnaryOp) and isinstance(leading.op, ast.USub):
        return Change(source.span(leading)[0], source.span(leading.operand)[0], "")
    if isinstance(parent, ast.BinOp) and parent.right is product:
        sign = source.text.rfind("-" if isinstance(parent.op, ast.Sub) else "+", 0, start)
        return Change(sign, sign + 1, "+" if isinstance(parent.op, ast.Sub) else "-")
    return Change(start, start, "-")


def _removed(source: Source, before: Expression, term: Term) -> Change:
    product = source.product(source.call(term, before.output))
    parent = source.parents[product]
    if not isinstance(parent, ast.BinOp):
        raise Unwritable("the term stands alone in its brackets")
    (start, end), (_, left), (right, _) = (
        source.span(product),
        source.span(parent.left),
        source.span(parent.right),
    )
    if parent.right is product:
        between = source.text[left:start]
        if "(" in between or ")" in between:
            raise Unwritable("the term stands in brackets of its own")
        return Change(left, end, "")
    between = source.text[end:right]
    if "(" in between or ")" in between:
        raise Unwritable("the term stands in brackets of its own")
    return Change(start, right, "-" if isinstance(parent.op, ast.Sub) else "")


def _appended(source: Source, before: Expression, term: Term) -> Change:
    last = source.call(before.terms[-1], before.output)
    value = source.value(last)
    text = term_code(term, before.output)
    needed = {n for n in ("delta", "ones", "size", "Fraction") if n in text}
    if needed - source.names():
        raise Unwritable(f"import {', '.join(sorted(needed - source.names()))} first")
    _, end = source.span(value)
    sign, body = ("-", text[1:]) if text.startswith("-") else ("+", text)
    column = value.col_offset
    if (
        isinstance(value, ast.BinOp)
        and not isinstance(value.op, ast.Add | ast.Sub)
        and not _is_product_of_one(value)
    ):
        raise Unwritable("a factor stands around the whole sum")
    return Change(end, end, f"\n{' ' * column}{sign} {body}")


def _is_product_of_one(value: ast.expr) -> bool:
    return sum(_is_einsum(n) for n in ast.walk(value)) == 1


def applied(text: str, found: list[Change]) -> str:
    """The text with the changes made, the last ones first."""
    for change in sorted(found, key=lambda c: (c.start, c.end), reverse=True):
        text = text[: change.start] + change.text + text[change.end :]
    return text
