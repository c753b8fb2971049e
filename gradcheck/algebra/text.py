"""Expressions as people read them: plain text, LaTeX, and einsum calls."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from gradcheck.algebra.terms import Term

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck.algebra.grouping import Group
    from gradcheck.algebra.terms import Expression, Factor

_SEED = re.compile(r"(?<!\w)d\(\w+\)")


def plain(expression: Expression) -> str:
    """`a[p,q] δ[p,r] δ[q,s] − a[p,q] a[p,s] δ[p,r]`, or grouped: `(a[r,s] − y[r,s]) / m`."""
    if expression.is_grouped and expression.terms:
        return plain_groups(expression.groups(), expression.output, expression.seed)
    text = _joined([_plain_term(t, expression.output) for t in expression.terms])
    return with_seed(text, expression.seed)


def plain_groups(groups: Sequence[Group], output: Iterable[str], seed: str = "") -> str:
    """`Σ_p x[p,r] (a[p,s] − y[p,s]) / m`: products of factors and sums."""
    parts = [_plain_group(g, tuple(output)) for g in groups]
    return with_seed(_joined(_without_parentheses(parts, groups)), seed)


def with_seed(text: str, seed: str) -> str:
    """The cotangent d(a) under the name that it has in print."""
    return _SEED.sub(seed, text) if seed else text


def latex_seed(text: str, seed: str) -> str:
    """The same in LaTeX, where it has a bar if it has no name of its own."""
    if seed:
        return _SEED.sub(lambda _: seed, text)
    return _SEED.sub(lambda m: rf"\bar{{{latex_name(m[0][2:-1])}}}", text)


def left_side(expression: Expression, *, latex: bool = False) -> str:
    """`∂a[p,q]/∂z[r,s]`, where the expression stands for a derivative."""
    start, parts = 0, []
    for name, count in expression.title:
        letters = ",".join(expression.output[start : start + count])
        start += count
        index = (f"_{{{letters}}}" if latex else f"[{letters}]") if count else ""
        parts.append(f"{name}{index}")
    if latex:
        return rf"\frac{{\partial {parts[0]}}}{{\partial {parts[1]}}}"
    return f"∂{parts[0]}/∂{parts[1]}"


def equation(expression: Expression) -> str:
    """The derivative with its left-hand side, as one line of text."""
    return f"{left_side(expression)} = {plain(expression)}"


def _joined(terms: list[tuple[bool, str]]) -> str:
    if not terms:
        return "0"
    text = ""
    for negative, body in terms:
        sign = ("−" if negative else "") if not text else (" − " if negative else " + ")
        text += sign + body
    return text


def _plain_group(group: Group, output: tuple[str, ...]) -> tuple[bool, str]:
    known = (*output, *group.summed)
    sums = [f"({_joined([_plain_term(t, known) for t in total])})" for total in group.sums]
    head = Term(group.coefficient, group.sizes, group.factors, group.deltas)
    return _plain_term(head, output, group.summed, sums)


def _without_parentheses(
    parts: list[tuple[bool, str]], groups: Sequence[Group]
) -> list[tuple[bool, str]]:
    """A sum that stands alone needs none."""
    if len(parts) == 1 and _is_bare_sum(groups[0]) and groups[0].coefficient == 1:
        return [(False, parts[0][1][1:-1])]
    return parts


def _is_bare_sum(group: Group) -> bool:
    others = group.factors or group.deltas or group.sizes or group.summed
    return len(group.sums) == 1 and not others


def _plain_term(
    term: Term,
    output: tuple[str, ...],
    over: Iterable[str] | None = None,
    sums: Iterable[str] = (),
) -> tuple[bool, str]:
    summed = [s for s in term.letters() if s not in output] if over is None else over
    parts = [_plain_factor(f) for f in cotangent_first(term.factors)]
    parts += [f"δ[{a},{b}]" for a, b in term.deltas]
    parts += sums
    above, below = _magnitude(term)
    head = f"Σ_{''.join(summed)} " if summed else ""
    if not term.coefficient:
        return False, "0"
    number = above if above != "1" or not parts else ""
    body = head + " ".join(p for p in (number, *parts) if p)
    return term.coefficient < 0, f"{body} / {below}" if below else body


def _magnitude(term: Term) -> tuple[str, str]:
    """Numerator and denominator of the coefficient, sizes included."""
    above = [str(abs(term.coefficient.numerator))] if abs(term.coefficient.numerator) != 1 else []
    below = [str(term.coefficient.denominator)] if term.coefficient.denominator != 1 else []
    for axis, power in term.sizes:
        (above if power > 0 else below).append(_power(axis, abs(power)))
    text = " ".join(below)
    return " ".join(above) or "1", f"({text})" if len(below) > 1 else text


def _power(base: str, power: Fraction) -> str:
    if power == 1:
        return base
    if power == Fraction(1, 2):
        return f"√{base}"
    return f"{base}^{power}" if power.denominator == 1 and power > 0 else f"{base}^({power})"


def _plain_factor(factor: Factor) -> str:
    letters = ",".join(s or "0" for s in factor.letters)
    name = factor.name if factor.function is None else f"{factor.function}({factor.name})"
    index = f"[{letters}]" if factor.letters else ""
    power = "" if factor.power == 1 else _power("", factor.power).replace("√", "^(1/2)")
    return f"{name}{power}{index}"


def cotangent_first(factors: Iterable[Factor]) -> list[Factor]:
    """The factors with the cotangent, if there is one, in front."""
    return sorted(factors, key=lambda f: not f.name.startswith("d("))


def einsum_call(term: Term, output: tuple[str, ...]) -> str:
    """`-1 / m * einsum('pq,pq->pq', y, a**-1)`: what numpy would be asked to do."""
    groups = ["".join(s or "" for s in f.letters) for f in term.factors]
    groups += ["".join(pair) for pair in term.deltas]
    names = [_operand(f) for f in term.factors] + ["delta"] * len(term.deltas)
    carried = [s for s in output if not any(s in g for g in groups)]
    if carried or not groups:
        groups.append("".join(carried))
        names.append("ones")
    above, below = _magnitude(term)
    factor = above.replace(" ", " * ") + (f" / {below.replace(' ', ' * ')}" if below else "")
    sign = "-" if term.coefficient < 0 else ""
    lead = "" if factor == "1" and not sign else f"{sign}{factor} * " if factor != "1" else "-"
    return f"{lead}einsum('{','.join(groups)}->{''.join(output)}', {', '.join(names)})"


def _operand(factor: Factor) -> str:
    name = factor.name if factor.function is None else f"{factor.function}({factor.name})"
    if factor.power == 1:
        return name
    return (
        f"{name}**{factor.power}" if factor.power.denominator == 1 else f"{name}**({factor.power})"
    )


def latex(expression: Expression) -> str:
    """The right-hand side as LaTeX."""
    if expression.is_grouped and expression.terms:
        return latex_groups(expression.groups(), expression.output, expression.seed)
    text = _joined([_latex_term(t, expression.output) for t in expression.terms])
    return latex_seed(text.replace("−", "-"), expression.seed)


def latex_groups(groups: Sequence[Group], output: Iterable[str], seed: str = "") -> str:
    """Products of factors and sums as LaTeX."""
    parts = []
    for group in groups:
        known = (*output, *group.summed)
        totals = [_joined([_latex_term(t, known) for t in total]) for total in group.sums]
        bare = len(groups) == 1 and _is_bare_sum(group) and group.coefficient == 1
        sums = totals if bare else [rf"\left( {t} \right)" for t in totals]
        head = Term(group.coefficient, group.sizes, group.factors, group.deltas)
        parts.append(_latex_term(head, tuple(output), group.summed, sums))
    return latex_seed(_joined(parts).replace("−", "-"), seed)


def _latex_term(
    term: Term,
    output: tuple[str, ...],
    over: Iterable[str] | None = None,
    sums: Iterable[str] = (),
) -> tuple[bool, str]:
    summed = [s for s in term.letters() if s not in output] if over is None else over
    parts = [_latex_factor(f) for f in cotangent_first(term.factors)]
    parts += [rf"\delta_{{{_indices((a, b))}}}" for a, b in term.deltas]
    parts += sums
    above = [str(abs(term.coefficient.numerator))] if abs(term.coefficient.numerator) != 1 else []
    below = [str(term.coefficient.denominator)] if term.coefficient.denominator != 1 else []
    for axis, power in term.sizes:
        (above if power > 0 else below).append(_latex_power(latex_name(axis), abs(power)))
    head = rf"\sum_{{{_indices(summed)}}} " if summed else ""
    if below:
        head = rf"\frac{{{' '.join(above) or '1'}}}{{{' '.join(below)}}} " + head
    elif above or not parts:
        head = (" ".join(above) or "1") + " " + head
    return term.coefficient < 0, (head + " ".join(parts)).strip()


def _latex_power(base: str, power: Fraction) -> str:
    if power == 1:
        return base
    if power == Fraction(1, 2):
        return rf"\sqrt{{{base}}}"
    return rf"{base}^{{{power}}}"


def _latex_factor(factor: Factor) -> str:
    letters = _indices(s or "0" for s in factor.letters)
    name = latex_name(factor.name)
    index = f"_{{{letters}}}" if letters else ""
    if factor.function is None:
        return f"{name}{index}" + ("" if factor.power == 1 else f"^{{{factor.power}}}")
    inner = rf"\operatorname{{{factor.function}}}({name}{index})"
    return inner if factor.power == 1 else rf"{{{inner}}}^{{{factor.power}}}"


def latex_name(name: str) -> str:
    """An operand's name as LaTeX: longer names upright; of `d(a)` see `latex_seed`."""
    if name.startswith("d("):
        return name
    escaped = name.replace("_", r"\_")
    return escaped if len(name) == 1 else rf"\mathrm{{{escaped}}}"


def _indices(letters: Iterable[str]) -> str:
    """Letters as a subscript; a numbered one, k12, stays together."""
    return "".join(s if len(s) == 1 else f"{{{s[0]}_{{{s[1:]}}}}}" for s in letters)
