"""Expressions as people read them: plain text, LaTeX, and einsum calls."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.algebra.terms import Expression, Factor, Term


def plain(expression: Expression) -> str:
    """`a[p,q] δ[p,r] δ[q,s] − a[p,q] a[p,s] δ[p,r]`."""
    return _joined([_plain_term(t, expression.output) for t in expression.terms])


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


def _plain_term(term: Term, output: tuple[str, ...]) -> tuple[bool, str]:
    summed = [s for s in term.letters() if s not in output]
    parts = [_plain_factor(f) for f in term.factors]
    parts += [f"δ[{a},{b}]" for a, b in term.deltas]
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
    return _joined([_latex_term(t, expression.output) for t in expression.terms]).replace("−", "-")


def _latex_term(term: Term, output: tuple[str, ...]) -> tuple[bool, str]:
    summed = [s for s in term.letters() if s not in output]
    parts = [_latex_factor(f) for f in term.factors]
    parts += [rf"\delta_{{{a}{b}}}" for a, b in term.deltas]
    above = [str(abs(term.coefficient.numerator))] if abs(term.coefficient.numerator) != 1 else []
    below = [str(term.coefficient.denominator)] if term.coefficient.denominator != 1 else []
    for axis, power in term.sizes:
        (above if power > 0 else below).append(_latex_power(axis, abs(power)))
    head = rf"\sum_{{{' '.join(summed)}}} " if summed else ""
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
    letters = "".join(s or "0" for s in factor.letters)
    name = factor.name
    if name.startswith("d("):
        name = rf"\bar{{{name[2:-1]}}}"
    elif len(name) > 1:
        name = rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"
    index = f"_{{{letters}}}" if letters else ""
    if factor.function is None:
        return f"{name}{index}" + ("" if factor.power == 1 else f"^{{{factor.power}}}")
    inner = rf"\operatorname{{{factor.function}}}({name}{index})"
    return inner if factor.power == 1 else rf"{{{inner}}}^{{{factor.power}}}"
